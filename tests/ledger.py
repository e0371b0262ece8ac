"""What is promised of jobs, held against the tables: none lost, nothing twice, no pass by accident."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from noisefloor.contract.delivery import Announcement
from noisefloor.contract.job import CellStatus, JobStatus
from noisefloor.contract.verdict import Verdict
from noisefloor.store import jobs, shards
from noisefloor.store.session import database_now
from noisefloor.store.tables import Cell, Delivery, Finding, Job, Measurement, Shard
from noisefloor.workflow.announce import WEBHOOK
from noisefloor.workflow.views import job_views

MEASURED = {CellStatus.DONE}
# by the policy of the tests' jobs, which is the default one
HARMLESS = {
    Verdict.PASS: MEASURED,
    Verdict.WARN: {*MEASURED, CellStatus.UNSUPPORTED},
    Verdict.ACKNOWLEDGED: {*MEASURED, CellStatus.UNSUPPORTED},
}
RECORDED = {CellStatus.DONE, CellStatus.FAILED}


@dataclass(frozen=True)
class Rows:
    """The tables at one moment."""

    now_s: float
    jobs: dict[str, Job]
    shards: dict[str, Shard]
    cells: dict[str, Cell]
    measurements: list[Measurement]
    findings: list[Finding]
    deliveries: list[Delivery]

    def of_job(self, job_id: str) -> list[Cell]:
        return [cell for cell in self.cells.values() if cell.job_id == job_id]

    def of_shard(self, shard_id: str) -> list[Cell]:
        return [cell for cell in self.cells.values() if cell.shard_id == shard_id]

    def measured(self, cell_id: str) -> list[Measurement]:
        return [one for one in self.measurements if one.cell_id == cell_id]

    def end_of(self, cell: Cell) -> tuple[object, ...]:
        """How a cell ended, and what it measured."""
        figures = sorted((one.id, one.value) for one in self.measured(cell.id))
        return cell.status, cell.reason, cell.attempt, figures


class Ledger:
    """What was answered and seen so far; `violations` names every promise that does not hold."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}
        self._contradictions: list[str] = []
        self._before: Rows | None = None

    def answered(self, request: str, job_id: str) -> None:
        """A request was acknowledged with a job. The same request is always answered with the same one."""
        first = self._answers.setdefault(request, job_id)
        if first != job_id:
            self._contradictions.append(f"{request} was answered with {first}, and then with {job_id}")

    def retried(self, session: Session) -> None:
        """Cells that ended are measured again, by a user's wish: their ends are forgotten."""
        self._before = rows(session)

    def violations(self, session: Session) -> list[str]:
        """Every broken promise, in words. What was seen at the last call must have led here."""
        seen, before = rows(session), self._before
        self._before = seen
        lost = [f"job {job_id} is lost" for job_id in self._answers.values() if job_id not in seen.jobs]
        steps = _steps(before, seen) if before is not None else ()
        return [*self._contradictions, *lost, *_states(seen), *steps, *_shown(session, seen)]


def rows(session: Session) -> Rows:
    """All rows, detached from what happens to them later."""
    session.expunge_all()

    def by_id(table: type[Job] | type[Shard] | type[Cell]) -> dict[str, object]:
        return {row.id: row for row in session.scalars(select(table).order_by(table.id))}

    found = Rows(
        now_s=session.scalars(select(database_now())).one(),
        jobs=by_id(Job),
        shards=by_id(Shard),
        cells=by_id(Cell),
        measurements=list(session.scalars(select(Measurement))),
        findings=list(session.scalars(select(Finding))),
        deliveries=list(session.scalars(select(Delivery).order_by(Delivery.sequence))),
    )
    session.expunge_all()
    return found


def _shown(session: Session, seen: Rows) -> Iterator[str]:
    """The progress that users see adds up."""
    for view in job_views(session, jobs.by_ids(session, seen.jobs)):
        found, shown = seen.of_job(view.id), view.progress
        ended = sum(CellStatus(cell.status).ended for cell in found)
        if (shown.cells, shown.ended) != (len(found), ended):
            yield f"job {view.id} shows {shown.ended} of {shown.cells} cells; {ended} of {len(found)} are so"


def _states(seen: Rows) -> Iterator[str]:
    """What must hold of the tables at every moment."""
    places = Counter((m.cell_id, m.edge, m.place, m.metric) for m in seen.measurements)
    yield from (f"{place} was measured {times} times" for place, times in places.items() if times > 1)
    for cell in seen.cells.values():
        if (cell.status == CellStatus.DONE) != bool(seen.measured(cell.id)):
            yield f"cell {cell.id} is {cell.status} with {len(seen.measured(cell.id))} measurements"
    for shard in seen.shards.values():
        yield from _shard(seen, shard)
    for job in seen.jobs.values():
        yield from _job(seen, job)


def _shard(seen: Rows, shard: Shard) -> Iterator[str]:
    waiting = any(cell.status == CellStatus.QUEUED for cell in seen.of_shard(shard.id))
    if waiting == (shard.status == shards.DONE):
        yield f"shard {shard.id} is {shard.status}, and has cells that wait: {waiting}"
    if (shard.status == shards.RUNNING) != (shard.lease_until is not None):
        yield f"shard {shard.id} is {shard.status} with a lease until {shard.lease_until}"
    if not 0 <= shard.tries <= shards.MAX_TRIES:
        yield f"shard {shard.id} has had {shard.tries} tries"


def _job(seen: Rows, job: Job) -> Iterator[str]:
    statuses = Counter(CellStatus(cell.status) for cell in seen.of_job(job.id))
    ended = all(status.ended for status in statuses)
    facts = {
        "settled": JobStatus(job.status).settled,
        "finished": job.finished_at is not None,
        "judged": job.verdict != Verdict.PENDING,
    }
    yield from (
        f"job {job.id}: cells have ended: {ended}, {name}: {is_so}"
        for name, is_so in facts.items()
        if is_so != ended
    )
    if ended and (job.status == JobStatus.CANCELLED) != (statuses[CellStatus.CANCELLED] > 0):
        yield f"job {job.id} is {job.status} with cells {dict(statuses)}"
    if job.verdict in HARMLESS:
        yield from _passed_by_accident(seen, job)
    found = Counter(f.cell_id for f in seen.findings if f.job_id == job.id)
    for cell in seen.of_job(job.id):
        wanted = max(1, len(seen.measured(cell.id))) if ended else 0
        if found[cell.id] != wanted:
            yield f"cell {cell.id} has {found[cell.id]} findings, and not {wanted}"
    told = [Announcement.model_validate(d.announcement) for d in seen.deliveries if d.kind == WEBHOOK]
    last = [one.verdict for one in told if one.job == job.id][-1:]
    if ended and last not in ([], [job.verdict]):
        yield f"job {job.id} is {job.verdict}, and {last[0]} was told of it last"


def _passed_by_accident(seen: Rows, job: Job) -> Iterator[str]:
    for cell in seen.of_job(job.id):
        if cell.status not in HARMLESS[Verdict(job.verdict)]:
            yield f"job {job.id} is {job.verdict}, and cell {cell.id} {cell.status}"
        floors_db = cell.scheme["floor_db"] or {}
        below = any(
            m.value is not None and m.value < floors_db.get(m.edge, m.value) for m in seen.measured(cell.id)
        )
        if below and job.verdict == Verdict.PASS:
            yield f"job {job.id} passed, and cell {cell.id} is below its floor"


def _steps(before: Rows, after: Rows) -> Iterator[str]:
    """What must hold of two moments, the second one step after the first."""
    for gone in (before.jobs.keys() - after.jobs.keys()) | (before.cells.keys() - after.cells.keys()):
        yield f"{gone} is gone"
    for shard_id, was in before.shards.items():
        is_now = after.shards[shard_id]
        if is_now.attempt < was.attempt:
            yield f"shard {shard_id} went back from attempt {was.attempt} to {is_now.attempt}"
        held = was.status == shards.RUNNING and (was.lease_until or 0) > after.now_s
        if is_now.attempt > was.attempt and held:
            yield f"shard {shard_id} was taken from {was.worker}, who holds it"
    for cell_id, cell in before.cells.items():
        now = after.cells[cell_id]
        if CellStatus(cell.status).ended and before.end_of(cell) != after.end_of(now):
            yield f"cell {cell_id} ended as {before.end_of(cell)}, and is {after.end_of(now)}"
        token = after.shards[now.shard_id].attempt
        if not CellStatus(cell.status).ended and now.status in RECORDED and now.attempt != token:
            yield f"cell {cell_id} was recorded under attempt {now.attempt}, and {token} holds its shard"
