"""Metrics of plugins: `(ref, actual) -> float | None` on two tensors of one shape and dtype."""

import math
from collections.abc import Callable, Iterable

from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.measurement import Measurement, bounds
from noisefloor.contract.scheme import Edge
from noisefloor_workers.numerics.comparable import difference, is_measurable
from noisefloor_workers.numerics.compare import short_place
from noisefloor_workers.numerics.leaves import StructureMismatch, pairs
from noisefloor_workers.plugins import plugin

PluginMetric = Callable[[Tensor, Tensor], float | None]


def plugin_measurements(
    names: Iterable[str], edge: Edge, *, ref: object, actual: object
) -> tuple[Measurement, ...]:
    """Each metric of each leaf that can be compared; None is `not_applicable`, NaN or infinity `nonfinite`.

    A metric gets copies: one that works in place changes neither the outputs nor what the next one gets.
    Leaves that differ in shape or dtype have none: the SQNR of the same place says what differs.
    Raises Unsupported for a name that is not installed, TypeError for what is neither a number nor None,
    ValueError for a number that no figure can be.
    """
    metrics: dict[str, PluginMetric] = {name: plugin("metric", name) for name in names}
    found = pairs(ref=ref, actual=actual) if metrics else []
    if isinstance(found, StructureMismatch):
        return ()
    return tuple(
        Measurement(
            edge=edge,
            place=short_place(pair.place),
            metric=name,
            figure=_figure(name, metric(pair.ref.clone(), pair.actual.clone())),
        )
        for pair in found
        if isinstance(pair.ref, Tensor)
        and isinstance(pair.actual, Tensor)
        and is_measurable(pair.ref)
        and difference(ref=pair.ref, actual=pair.actual) is None
        for name, metric in metrics.items()
    )


def _figure(name: str, value: float | None) -> Figure:
    if value is None:
        return Figure.of(FigureKind.NOT_APPLICABLE)
    try:
        is_finite = math.isfinite(value)
    except (RuntimeError, TypeError, ValueError) as error:  # the first is of a tensor with several elements
        said = f"metric {name} returned a {type(value).__name__} that is neither a number nor None"
        raise TypeError(said) from error
    if not is_finite:
        return Figure.of(FigureKind.NONFINITE)
    number, (low, high) = float(value), bounds(name)
    if not low <= number <= high:
        raise ValueError(f"metric {name} returned {number:g}; accepted: {low:g} to {high:g}")
    return Figure.finite(number)
