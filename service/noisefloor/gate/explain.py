"""What a report knows of a finding beside its message: layer, cause, and who let it through. Pure."""

from noisefloor.contract.base import Value
from noisefloor.contract.layers import Culprit
from noisefloor.contract.measurement import SQNR
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Finding, Verdict
from noisefloor.gate.culprit import culprit
from noisefloor.gate.saved import lines

LOSSES = frozenset({Verdict.REGRESSED, Verdict.ACKNOWLEDGED})


class Explanation(Value):
    """What is known of one finding; None is not known, or not asked of a finding of its kind."""

    layer: Culprit | None = None
    cause: str | None = None
    let_through: str | None = None

    @property
    def sentences(self) -> tuple[str, ...]:
        """Each that is known, on a line of its own."""
        said = (
            str(self.layer) if self.layer is not None else None,
            f"cause: {self.cause}" if self.cause is not None else None,
            f"let through: {self.let_through}" if self.let_through is not None else None,
        )
        return tuple(one for one in said if one is not None)


class Explanations:
    """Looks findings of a report up. `saved` has the layers and the environment of before."""

    def __init__(self, report: Report, saved: Report | None = None) -> None:
        self._layers = {view.cell: view for view in report.layers}
        self._causes = {one.measurement: one.attribution.message for one in report.attributions}
        self._before = {line: cell for line, cell, _ in lines(saved)} if saved is not None else {}
        self._layers_before = {view.cell: view for view in saved.layers} if saved is not None else {}

    def of(self, cell: CellView, measured: MeasurementView | None, finding: Finding) -> Explanation:
        """Of a finding about a measurement of a cell, or about a cell that gave none."""
        if measured is None:
            return explained(finding)
        earlier = self._before.get((measured.series, cell.lane.threads))
        cause = self._causes.get(measured.id)
        if cause is None and finding.verdict in LOSSES and measured.metric == SQNR and _is_loss(finding):
            cause = _cause(cell, earlier) or "not known"
        return explained(finding).replace(layer=self._culprit(cell, measured.edge, earlier), cause=cause)

    def _culprit(self, cell: CellView, edge: str, earlier: CellView | None) -> Culprit | None:
        """The layer that lost most, as the service says or by the saved report; or else the noisiest."""
        view = self._layers.get(cell.id)
        here = next((one for one in view.reports if one.edge == edge), None) if view is not None else None
        if view is None or here is None:
            return None
        if earlier is None:
            return next((one for one in view.lost if one.edge == edge), None) or culprit(here, None)
        was = self._layers_before.get(earlier.id)
        return culprit(here, next((one for one in was.reports if one.edge == edge), None) if was else None)


def explained(finding: Finding) -> Explanation:
    """What a finding says itself."""
    return Explanation(let_through=str(finding.acknowledged) if finding.acknowledged is not None else None)


def _is_loss(finding: Finding) -> bool:
    """Whether it lost anything since its baseline, as far as that is known."""
    return finding.drop_db is None or finding.drop_db > 0


def _cause(cell: CellView, earlier: CellView | None) -> str | None:
    """What moved beside the figure. Code and environment are told apart where the latter stood still."""
    if earlier is None or cell.environment is None or earlier.environment is None:
        return None
    if cell.environment == earlier.environment:
        return "code or config: the environment is the same"
    return "the environment changed, the code may have too"
