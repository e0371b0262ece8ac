"""How a headline's noise is made up of what happens between its two ends."""

from collections.abc import Sequence

from pydantic import Field, ValidationError

from noisefloor.contract.base import Value
from noisefloor.contract.measurement import OUTPUT, Measurement
from noisefloor.contract.scheme import Edge, ends
from noisefloor.contract.sums import Sums


class Part(Value):
    """One step of the way, and its noise energy Σe² as a share of the headline's."""

    edge: Edge
    share: float


class Budget(Value):
    """The noise energy of an edge, split over edges that lead from its reference to its actual variant.

    The errors of the steps add up to the headline's error, e = Σeᵢ; their energies do not:
    ‖e‖² = Σ‖eᵢ‖² + Σ⟨eᵢ,eⱼ⟩ over i ≠ j. `cross` is that last sum, below zero where steps cancel each other.
    All shares and `cross` add up to one. So a hard quantization (`float32->fake`) is told from a wrong
    kernel (`reference->true`).
    """

    edge: Edge
    parts: tuple[Part, ...]
    cross: float = Field(description="share of the noise energy that no step has on its own")


def budgets(measurements: Sequence[Measurement]) -> tuple[Budget, ...]:
    """The budget of each edge that other measured edges lead through.

    >>> def measured(edge, noise):
    ...     sums = Sums(n=1, ref_sq=1.0, actual_sq=1.0, ref_actual=1.0, err_sq=noise)
    ...     return Measurement(edge=edge, figure=sums.sqnr_db(), sums=sums)
    >>> steps = measured("float32->fake", 0.6), measured("fake->true", 0.3)
    >>> (found,) = budgets([measured("float32->true", 1.0), *steps])
    >>> [part.share for part in found.parts], round(found.cross, 3)
    ([0.6, 0.3], 0.1)
    """
    sums = {m.edge: m.sums for m in measurements if m.place == OUTPUT and m.sums is not None}
    found = (_budget(edge, sums) for edge in sums)
    return tuple(budget for budget in found if budget is not None)


def _budget(headline: Edge, sums: dict[Edge, Sums]) -> Budget | None:
    total = sums[headline]
    steps = _way(*ends(headline), [edge for edge in sums if edge != headline])
    if total.err_sq == 0 or any(s.nonfinite_ref or s.nonfinite_actual for s in sums.values()) or not steps:
        return None
    try:
        parts = tuple(Part(edge=edge, share=_share(sums[edge], total)) for edge in steps)
        return Budget(edge=headline, parts=parts, cross=1.0 - sum(part.share for part in parts))
    except (OverflowError, ValidationError):  # a step's noise is more than 1e308 times the headline's
        return None


def _share(part: Sums, total: Sums) -> float:
    ratio = part.err_sq / total.err_sq
    return ratio * 4.0 ** (part.err_exp - total.err_exp)


def _way(start: str, end: str, edges: Sequence[Edge]) -> tuple[Edge, ...]:
    """The longest way from one variant to another; variants have an order, so there is no circle."""
    ways = [
        (edge, *rest)
        for edge in edges
        if ends(edge)[0] == start
        for rest in ([()] if ends(edge)[1] == end else [_way(ends(edge)[1], end, edges)])
        if rest or ends(edge)[1] == end
    ]
    return max(ways, key=len, default=())
