"""What is known when a job is judged: values alone."""

from collections.abc import Iterable

from noisefloor import plan
from noisefloor.contract.base import Value
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus
from noisefloor.contract.match import Where
from noisefloor.contract.measurement import OUTPUT, SQNR, Measurement, Metric
from noisefloor.contract.scheme import Edge, Scheme
from noisefloor.contract.verdict import Acknowledgement, Baseline
from noisefloor.gate.files import Doubt

HALF_OF_THE_NOISE_DB = 3.0


class Level(Value):
    """What somebody accepted of a series: its figure, or, without one, that it is missing.

    It is spent once the baseline has it: what is lost from there is another loss. `limits`: of the rules held
    against no earlier result, what those asked that were broken then; None of what older versions kept.
    """

    figure: Figure | None
    limits: dict[str, float] | None = None
    by: Acknowledgement
    spent: bool = False


class Evidence(Value):
    """What is known of one measurement when it is judged."""

    edge: Edge = "float32->true"
    place: str = OUTPUT
    metric: Metric = SQNR
    figure: Figure
    own_floor: Figure | None = None
    zero_output: bool = False
    floor_db: float | None = None
    output_digest: str | None = None
    baseline: Baseline | None = None
    unfound: str | None = None  # why there is no baseline
    anchor: Baseline | None = None
    levels: tuple[Level, ...] = ()
    conformance: Conformance | None = None

    @property
    def is_own_floor(self) -> bool:
        """Whether at least half of the noise is float32's own: such a figure moves with anything."""
        own, figure = self.own_floor, self.figure
        if own is None or own.value is None or figure.value is None:
            return False
        return figure.value > own.value - HALF_OF_THE_NOISE_DB


class CellEvidence(Value):
    """What is known of one cell when it is judged. `subject_key` tells subjects of one label apart."""

    label: str
    where: Where = Where()
    subject_key: str = ""
    edges: tuple[Edge, ...] = ()
    status: CellStatus
    reason: str | None = None
    doubt: Doubt | None = None  # that it was measured from the files of the job's commit
    measurements: tuple[Evidence, ...] = ()

    def at(self, evidence: Evidence) -> Where:
        """Where one of the cell's measurements stands. Facts of a graph have no place in an output."""
        place = evidence.place if evidence.metric == SQNR else None
        return self.where.model_copy(update={"edge": evidence.edge, "place": place})


class AbsentSeries(Value):
    """A series that the baseline had; `status` is of the job's own cell that should have measured it."""

    series: str
    label: str
    where: Where
    metric: Metric = SQNR
    baseline: Baseline | None  # without one, all that was measured of it was refused
    status: CellStatus | None = None
    levels: tuple[Level, ...] = ()


def cell_evidence(
    cell: plan.Cell,
    *,
    status: CellStatus,
    reason: str | None,
    doubt: Doubt | None,
    measurements: Iterable[Evidence] = (),
) -> CellEvidence:
    """The evidence of a planned cell."""
    return CellEvidence(
        label=cell.label,
        where=where(cell),
        subject_key=cell.subject.model_dump_json(exclude_defaults=True),
        edges=cell.scheme.edges,
        status=status,
        reason=reason,
        doubt=doubt,
        measurements=tuple(measurements),
    )


def where(cell: plan.Cell) -> Where:
    """Where a cell's series stand."""
    lane = cell.lane
    return Where(
        subject=cell.subject.label,
        scheme=cell.scheme.label,
        engine=lane.engine,
        device=lane.device,
        isa=lane.isa,
    )


def evidence(measurement: Measurement, scheme: Scheme, kernel: Conformance | None = None) -> Evidence:
    """The evidence of a measurement that has no history."""
    sums = measurement.sums
    return Evidence(
        edge=measurement.edge,
        place=measurement.place,
        metric=measurement.metric,
        figure=measurement.figure,
        own_floor=measurement.own_floor,
        zero_output=sums is not None and sums.zero_output,
        output_digest=measurement.output_digest,
        floor_db=floor_db(scheme, measurement.edge, measurement.place, measurement.metric),
        conformance=kernel,
    )


def floor_db(scheme: Scheme, edge: str, place: str, metric: str) -> float | None:
    """The scheme's floor under a measurement: floors are about the whole output, in dB."""
    if place != OUTPUT or metric != SQNR:
        return None
    return next((db for e, db in scheme.floor_db.items() if e == edge), None)
