"""Push: a job whose cells were measured elsewhere, recorded and judged in one transaction."""

from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import OUTPUT, SQNR, WRONG_CASES, CellResult
from noisefloor.contract.resources import FieldError
from noisefloor.contract.results import MeasuredJob
from noisefloor.errors import InvalidRequestError
from noisefloor.settings import Settings
from noisefloor.store import cells, jobs, shards
from noisefloor.store.tables import Job
from noisefloor.workflow.check import check_plan, invalid
from noisefloor.workflow.record import write
from noisefloor.workflow.settle import settle_if_ended
from noisefloor.workflow.submit import enter, once

ERRORS_SHOWN = 20


def push(
    session: Session,
    *,
    project: str,
    measured: MeasuredJob,
    settings: Settings,
    idempotency_key: str | None = None,
) -> Job:
    """Take a job with all its results, or raise the error that names what is missing or refused.

    What restricts a job that is to be run does not apply: nothing is imported, and no file is read.
    """

    def accept() -> Job:
        check_plan(measured.job, project=project, settings=settings)
        _check_results(list(plan.cells(measured.job)), measured.results)
        if measured.explains is not None:
            _check_explained(session, project, measured.explains)
        job, shard_ids = enter(session, project=project, spec=measured.job, explains=measured.explains)
        results = {result.cell: result for result in measured.results}
        for cell in cells.page(session, job.id):
            write(session, project, cell, results[str(cell.ordinal)])
        shards.end(session, shard_ids)
        settle_if_ended(session, job.id)
        return job

    return once(session, project=project, key=idempotency_key, request=measured, act=accept)


def _check_explained(session: Session, project: str, job_id: str) -> None:
    """Refuse to explain what is not there, or decides nothing itself. Keeps retention off the job."""
    explained = jobs.held(session, project, job_id)
    if explained is None:
        raise invalid("explains", f"project {project!r} has no such job", job_id, None)
    if not explained.counts:
        message = "is a job that decides nothing itself, and so has nothing to explain"
        raise invalid("explains", message, job_id, None)


def _check_results(planned: Sequence[plan.Cell], results: Sequence[CellResult]) -> None:
    by_ordinal = {str(cell.ordinal): cell for cell in planned}
    times = Counter(result.cell for result in results)
    errors = [
        FieldError(field="results", message=f"cell {ordinal} is missing: {cell.label}", value=None)
        for ordinal, cell in by_ordinal.items()
        if not times[ordinal]
    ]
    for number, result in enumerate(results):
        cell = by_ordinal.get(result.cell)
        if cell is None:
            accepted = [f"0 to {len(planned) - 1}"]
            message = "the job has no such cell"
            errors.append(_error(number, "cell", message, result.cell, accepted))
        elif times[result.cell] > 1:
            errors.append(_error(number, "cell", "this cell has several results", result.cell))
        else:
            errors.extend(_of_cell(number, cell, result))
    if errors:
        said = "; ".join(f"{error.field}: {error.message}" for error in errors[:3])
        raise InvalidRequestError(said, errors[:ERRORS_SHOWN])


def _of_cell(number: int, cell: plan.Cell, result: CellResult) -> Iterator[FieldError]:
    """A cell that is done has a figure for each edge, once: what was left out would not be judged."""
    yield from _of_kernel(number, cell, result)
    places = Counter((m.edge, m.place, m.metric) for m in result.measurements)
    if result.status is not CellStatus.DONE:
        if places:
            message = "measurements belong to a cell that is done"
            yield _error(number, "status", message, result.status.value, ["done"])
        return
    metric = SQNR if cell.subject.conformance is None else WRONG_CASES
    for edge in cell.scheme.edges:
        if (edge, OUTPUT, metric) not in places:
            message = f"{metric} of edge {edge} at {OUTPUT!r} is missing, and the cell is done"
            yield _error(number, "measurements", message, None)
    for place, times in places.items():
        if times > 1:
            yield _error(number, "measurements", "stands there twice", " ".join(place))


def _of_kernel(number: int, cell: plan.Cell, result: CellResult) -> Iterator[FieldError]:
    """What was found of a kernel is of the cell's own kernel, and a cell that is done has it."""
    found, wanted = result.conformance, cell.subject.conformance
    if found is None:
        if wanted is not None and result.status is CellStatus.DONE:
            message = f"what was found of {wanted} is missing, and the cell is done"
            yield _error(number, "conformance", message, None)
        return
    if wanted is None:
        yield _error(number, "conformance", f"{cell.subject.label} is no operator", found.op)
        return
    if result.environment is None:
        yield _error(number, "environment", "a kernel is found in an environment, and it is missing", None)
    for name, planned in {"op": wanted, "engine": cell.lane.engine, "isa": cell.lane.isa}.items():
        if getattr(found, name) != planned:
            message = "it is of another kernel than the cell's"
            yield _error(number, f"conformance.{name}", message, getattr(found, name), [planned])


def _error(
    number: int, field: str, message: str, value: object, accepted: list[str] | None = None
) -> FieldError:
    return FieldError(field=f"results.{number}.{field}", message=message, value=value, accepted=accepted)
