"""What the losses of a job are put down to: reads the corners that were measured, and splits."""

from collections.abc import Iterable

from sqlalchemy.orm import Session

from noisefloor.contract.attribution import Attribution, AttributionView, Corner, Square
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.subject import Subject
from noisefloor.contract.verdict import Baseline, Finding
from noisefloor.gate.attribution import attribute
from noisefloor.store import attributions, tables
from noisefloor.store.attributions import Loss, Spot


def attributions_of(session: Session, job: tables.Job) -> tuple[AttributionView, ...]:
    """Each finding of the job that lost something against its baseline, split into code and environment."""
    losses = list(attributions.losses(session, job.id))
    wanted = {spot for loss in losses for spot in _spots(job, loss)}
    measured = attributions.measured_at(session, wanted)
    return tuple(
        AttributionView(
            measurement=loss.measurement.id,
            cell=loss.cell.id,
            series=loss.measurement.series_key,
            attribution=_attribution(job, loss, measured),
        )
        for loss in losses
    )


def _attribution(job: tables.Job, loss: Loss, measured: dict[Spot, tables.Measurement]) -> Attribution:
    baseline = _baseline(loss)
    here = Figure(value=loss.measurement.value, kind=FigureKind(loss.measurement.kind))
    key, new = loss.measurement.series_key, loss.cell.environment_key
    old_old = Corner(
        sha=baseline.sha,
        environment=baseline.environment,
        how="measured",
        figure=baseline.figure,
        job_id=baseline.job_id,
    )
    new_new = Corner(sha=job.sha, environment=new, how="measured", figure=here, job_id=job.id)
    if new is not None and new == baseline.environment:
        old_new, new_old = old_old, new_new  # there is one environment
    elif not _has_code_of_the_repository(loss.cell) or (job.sha is not None and job.sha == baseline.sha):
        old_new = new_new.replace(sha=baseline.sha, how="same_code")
        new_old = old_old.replace(sha=job.sha, how="same_code")
    else:
        old_new = _corner(measured, Spot(series=key, sha=baseline.sha, environment=new))
        new_old = _corner(measured, Spot(series=key, sha=job.sha, environment=baseline.environment))
    return attribute(Square(old_in_old=old_old, old_in_new=old_new, new_in_old=new_old, new_in_new=new_new))


def _corner(measured: dict[Spot, tables.Measurement], spot: Spot) -> Corner:
    row = measured.get(spot)
    if row is None:
        return Corner(sha=spot.sha, environment=spot.environment, how="missing")
    figure = Figure(value=row.value, kind=FigureKind(row.kind))
    return Corner(
        sha=spot.sha, environment=spot.environment, how="measured", figure=figure, job_id=row.job_id
    )


def _spots(job: tables.Job, loss: Loss) -> Iterable[Spot]:
    baseline, key = _baseline(loss), loss.measurement.series_key
    yield Spot(series=key, sha=baseline.sha, environment=loss.cell.environment_key)
    yield Spot(series=key, sha=job.sha, environment=baseline.environment)


def _baseline(loss: Loss) -> Baseline:
    found = Finding.model_validate(loss.finding.document).baseline
    assert found is not None  # noqa: S101 - the query asks for those that have one
    return found


def _has_code_of_the_repository(cell: tables.Cell) -> bool:
    """Whether a commit can change what the cell measures: a model of the zoo comes with the environment."""
    subject = Subject.model_validate(cell.subject)
    data = subject.data
    files = (subject.weights, *((data.calibration, data.evaluation) if data is not None else ()))
    unpinned = any(f is not None and f.safetensors is not None and f.sha256 is None for f in files)
    return subject.import_ is not None or unpinned
