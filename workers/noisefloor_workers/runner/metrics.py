"""Metrics of plugins: `(ref, actual) -> float | None` on tensors of equal shape and dtype."""

import math
from collections.abc import Callable, Iterable

from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.measurement import Measurement
from noisefloor.contract.scheme import Edge
from noisefloor_workers.numerics.comparable import difference, is_measurable
from noisefloor_workers.numerics.compare import short_place
from noisefloor_workers.numerics.leaves import StructureMismatch, pairs
from noisefloor_workers.plugins import plugin

PluginMetric = Callable[[Tensor, Tensor], float | None]


def plugin_measurements(
    names: Iterable[str], edge: Edge, *, ref: object, actual: object
) -> tuple[Measurement, ...]:
    """Each metric of each leaf that can be compared; None is `not_applicable`.

    Leaves that differ in shape or dtype have none: the SQNR of the same place says what differs.
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
            figure=_figure(metric(pair.ref, pair.actual)),
        )
        for pair in found
        if isinstance(pair.ref, Tensor)
        and isinstance(pair.actual, Tensor)
        and is_measurable(pair.ref)
        and difference(ref=pair.ref, actual=pair.actual) is None
        for name, metric in metrics.items()
    )


def _figure(value: float | None) -> Figure:
    if value is None:
        return Figure.of(FigureKind.NOT_APPLICABLE)
    return Figure.finite(float(value)) if math.isfinite(value) else Figure.of(FigureKind.NONFINITE)
