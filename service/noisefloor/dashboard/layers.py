"""The layers of a cell's edges, each beside the same layer of the result before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from noisefloor.contract.layers import Culprit, Layer, LayerReport, LayerView
from noisefloor.contract.measurement import OUTPUT, SQNR
from noisefloor.contract.resources import CellView
from noisefloor.dashboard.earlier import Earlier, earlier
from noisefloor.gate.culprit import culprit
from noisefloor.store import tables


@dataclass(frozen=True, kw_only=True)
class Row:
    """A layer, the same layer before, and what it lost of its own since then in dB."""

    layer: Layer
    was: Layer | None
    drop_db: float | None


@dataclass(frozen=True, kw_only=True)
class EdgeLayers:
    """The layers of one edge; `before` is None where nothing is known of the layers of a result before."""

    report: LayerReport
    before: Earlier | None
    culprit: Culprit | None
    rows: tuple[Row, ...]


def edges(
    session: Session,
    job: tables.Job,
    cell: CellView,
    found: LayerView,
    environment: Mapping[str, Any] | None,
) -> Iterator[EdgeLayers]:
    """What is known of each edge of a cell of a job."""
    outputs = {m.edge: m for m in cell.measurements if m.place == OUTPUT and m.metric == SQNR}
    for report in found.reports:
        output = outputs.get(report.edge)
        before = earlier(session, job, output, output.finding, environment) if output is not None else None
        known = before.layers if before is not None else None
        yield EdgeLayers(
            report=report,
            before=before if known is not None and known.layers else None,
            culprit=culprit(report, known),
            rows=tuple(_rows(report, known)),
        )


def _rows(report: LayerReport, known: LayerReport | None) -> Iterator[Row]:
    earlier_layers = {layer.name: layer for layer in known.layers} if known is not None else {}
    for layer in report.layers:
        was = earlier_layers.get(layer.name)
        lost = None
        if was is not None and was.local.value is not None and layer.local.value is not None:
            lost = was.local.value - layer.local.value
        yield Row(layer=layer, was=was, drop_db=lost)
