"""The verdict over an operator's cases. Pure."""

from collections.abc import Sequence
from typing import get_args

from noisefloor.contract.conformance import Case, Conformance, Outcome, Values, Verdict
from noisefloor.contract.lane import Engine, Isa

Examined = tuple[Case, Outcome]
SEVERITY = tuple(Verdict)
GENTLEST = get_args(Values)


def settle(op: str, engine: Engine, isa: Isa, examined: Sequence[Examined]) -> Conformance:
    """The worst that became of any case, and the figures over all of them."""
    outcomes = [outcome for _case, outcome in examined]
    faults = [outcome for outcome in outcomes if outcome.verdict.is_fault]
    refused = [outcome for outcome in outcomes if outcome.verdict is Verdict.UNSUPPORTED]
    elements = sum(outcome.elements for outcome in outcomes)
    figures = [outcome.sqnr_db for outcome in faults if outcome.sqnr_db is not None]
    return Conformance(
        op=op,
        engine=engine,
        isa=isa,
        verdict=max((o.verdict for o in outcomes), key=SEVERITY.index, default=Verdict.UNSUPPORTED),
        cases=len(outcomes),
        wrong_cases=len(faults),
        unsupported_cases=len(refused),
        worst_db=min(figures, default=None),
        max_lsb=max((outcome.max_lsb for outcome in outcomes), default=0),
        wrong_share=sum(outcome.wrong_elements for outcome in outcomes) / max(elements, 1),
        reason=_reason(examined),
        values=_faulty_values(examined),
    )


def to_shrink(examined: Sequence[Examined]) -> Examined | None:
    """The case that tells most: of the worst verdict, the gentlest values; None where nothing is at fault.

    A kernel that is wrong in seven bits has a fault of its own; one that is wrong only in eight may saturate.
    """
    faults = [(case, outcome) for case, outcome in examined if outcome.verdict.is_fault]
    worst = max((outcome.verdict for _case, outcome in faults), key=SEVERITY.index, default=None)
    alike = [(case, outcome) for case, outcome in faults if outcome.verdict is worst]
    return min(alike, key=lambda pair: GENTLEST.index(pair[0].values), default=None)


def _faulty_values(examined: Sequence[Examined]) -> tuple[Values, ...]:
    found = {case.values for case, outcome in examined if outcome.verdict.is_fault}
    return tuple(values for values in GENTLEST if values in found)


def _reason(examined: Sequence[Examined]) -> str | None:
    """Which values the faults are in, and each thing that was said, once."""
    values = _faulty_values(examined)
    where = [f"with values: {', '.join(values)}"] if values else []
    said = dict.fromkeys(outcome.reason for _case, outcome in examined if outcome.reason)
    return "; ".join([*where, *said])[:20_000] or None
