"""What the losses of a job are put down to: reads the corners that were measured, and splits."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from sqlalchemy.orm import Session

from noisefloor.contract.attribution import Attribution, AttributionView, Corner, Square
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import Environment
from noisefloor.contract.plugins import changes_with_commits
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.subject import Subject
from noisefloor.contract.verdict import Baseline, Finding
from noisefloor.contract.worker import Capabilities
from noisefloor.gate.attribution import attribute
from noisefloor.history.environments import differences
from noisefloor.store import attributions, measurements, tables
from noisefloor.store.attributions import Loss, Place, Spot
from noisefloor.store.cells import Asked
from noisefloor.workflow.evaluate import figure_of
from noisefloor.workflow.waiting import capabilities_here, missing


def attributions_of(session: Session, job: tables.Job) -> tuple[AttributionView, ...]:
    """Each finding of the job that lost something against its baseline, split into code and environment."""
    return tuple(
        AttributionView(
            measurement=loss.measurement.id,
            cell=loss.cell.id,
            series=loss.measurement.series_key,
            attribution=split,
        )
        for loss, split in splits(session, job)
    )


def splits(session: Session, job: tables.Job) -> Iterator[tuple[Loss, Attribution]]:
    """Each loss of the job beside its attribution."""
    losses = [loss for loss in attributions.losses(session, job.id) if _is_loss(loss)]
    corners = Corners(session, job, losses)
    for loss in losses:
        yield loss, _attribution(job, loss, corners)


def _is_loss(loss: Loss) -> bool:
    before, after = _baseline(loss).figure.value, figure_of(loss.measurement).value
    return before is None or after is None or before > after


class Corners:
    """What is known of a job's losses at the other commit or in the other environment."""

    def __init__(self, session: Session, job: tables.Job, losses: Sequence[Loss]) -> None:
        self._session = session
        wanted = {(spot, loss.cell.lineage) for loss in losses for spot in _spots(job, loss)}
        self._measured = attributions.measured_at(session, {spot for spot, _ in wanted})
        left = [(spot, lineage) for spot, lineage in wanted if spot not in self._measured]
        places = {Place(lineage, spot.sha, spot.environment) for spot, lineage in left}
        self._asked = attributions.asked(session, job.project, places)
        keys = {spot.environment for spot, _ in left if spot.environment is not None}
        self._environments = measurements.environments(session, keys) if keys else {}
        self._said: dict[tuple[Lane, str | None, str | None], str | None] = {}

    def at(self, loss: Loss, spot: Spot) -> Corner:
        """The corner as it was measured, or what keeps it from that."""
        row = self._measured.get(spot)
        corner = Corner(sha=spot.sha, environment=spot.environment, how="missing")
        if row is not None:
            return corner.replace(how="measured", figure=figure_of(row), job_id=row.job_id)
        ask = self._asked.get(Place(loss.cell.lineage, spot.sha, spot.environment))
        if ask is None:
            lacking = self._lacking(Lane.model_validate(loss.cell.lane), spot)
            note = "a worker could measure it" if lacking is None else lacking
            return corner.replace(offered=lacking is None, note=note)
        if not ask.settled:
            return corner.replace(how="pending", job_id=ask.job_id, note=f"being measured: job {ask.job_id}")
        why = f": {ask.reason}" if ask.reason else ""
        return corner.replace(job_id=ask.job_id, note=f"job {ask.job_id} ended it as {ask.status}{why}")

    @cached_property
    def _here(self) -> list[Capabilities]:
        return capabilities_here(self._session)

    def _lacking(self, lane: Lane, spot: Spot) -> str | None:
        """What no worker has of all that it takes to measure there; None where one has it."""
        key = (lane, spot.sha, spot.environment)
        if key not in self._said:
            self._said[key] = self._looked_up(lane, spot)
        return self._said[key]

    def _looked_up(self, lane: Lane, spot: Spot) -> str | None:
        document = self._environments.get(spot.environment or "")
        if spot.sha is None or document is None:
            return f"no {'commit' if spot.sha is None else 'environment'} is known of it"
        if not self._here:
            return "no worker is there"
        wanted = Environment.model_validate(document)
        asked = Asked(**dict(lane), torch=None, environment=wanted, commit=spot.sha)
        lacking = missing(asked, self._here)
        if lacking is None:
            return None
        return f"no worker has {lacking}{_difference(wanted, self._here)}"


def _difference(wanted: Environment, here: Sequence[Capabilities]) -> str:
    """What is other in the environment that comes nearest; nothing where one is the same."""
    before = wanted.model_dump(mode="json")
    nearest = [differences(before, e.model_dump(mode="json")) for one in here for e in one.nearest(wanted)]
    least = min(nearest, key=len, default=())
    return f"; the nearest differs in {', '.join(map(str, least))}" if least else ""


def _attribution(job: tables.Job, loss: Loss, corners: Corners) -> Attribution:
    baseline, new = _baseline(loss), loss.cell.environment_key
    old_old = Corner(
        sha=baseline.sha,
        environment=baseline.environment,
        how="measured",
        figure=baseline.figure,
        job_id=baseline.job_id,
    )
    here = figure_of(loss.measurement)
    new_new = Corner(sha=job.sha, environment=new, how="measured", figure=here, job_id=job.id)
    if (job.sha is not None and job.sha == baseline.sha) or not _changes_with_commits(loss):
        old_new = new_new.replace(sha=baseline.sha, how="same_code")
        new_old = old_old.replace(sha=job.sha, how="same_code")
    elif new is not None and new == baseline.environment:
        old_new, new_old = old_old, new_new  # there is one environment
    else:
        old_new, new_old = (corners.at(loss, spot) for spot in _spots(job, loss))
    return attribute(Square(old_in_old=old_old, old_in_new=old_new, new_in_old=new_old, new_in_new=new_new))


def _changes_with_commits(loss: Loss) -> bool:
    subject, scheme = Subject.model_validate(loss.cell.subject), Scheme.model_validate(loss.cell.scheme)
    return changes_with_commits(subject, scheme, [loss.measurement.metric])


def _spots(job: tables.Job, loss: Loss) -> Iterable[Spot]:
    baseline, key = _baseline(loss), loss.measurement.series_key
    yield Spot(series=key, sha=baseline.sha, environment=loss.cell.environment_key)
    yield Spot(series=key, sha=job.sha, environment=baseline.environment)


def _baseline(loss: Loss) -> Baseline:
    found = Finding.model_validate(loss.finding.document).baseline
    assert found is not None  # noqa: S101 - the query asks for those that have one
    return found
