"""Record: a cell's result, its series and environment, and what follows from the last of them."""

from typing import Any

from sqlalchemy.orm import Session

from noisefloor.contract.conformance import Conformance
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import CellResult, Environment, Measurement
from noisefloor.contract.scheme import Scheme
from noisefloor.contract.subject import Subject
from noisefloor.errors import NotFoundError, StaleTokenError
from noisefloor.identity import environment_key, series_identity, series_key
from noisefloor.store import cells, clock, jobs, shards, tables
from noisefloor.store.session import new_id
from noisefloor.store.upsert import insert_missing
from noisefloor.workflow.settle import settle_if_ended

COLUMNS = {"edge", "place", "metric", "figure"}


def record(session: Session, *, shard_id: str, attempt: int, result: CellResult) -> None:
    """Write one cell's result once. Raises `StaleTokenError` when a later attempt holds the shard."""
    shard = _held(session, shard_id, attempt)
    project = jobs.hold(session, shard.job_id)
    cell = cells.find(session, shard.job_id, result.cell)
    if cell is None or cell.shard_id != shard.id:
        raise NotFoundError(f"cell {result.cell} is not part of shard {shard_id}")
    if CellStatus(cell.status).ended:
        return
    cell.attempt = attempt
    shard.tries = 1  # a shard that gets on is not ended for the workers that it lost on the way
    write(session, project, cell, result)
    _release_if_ended(session, shard)


def write(session: Session, project: str, cell: tables.Cell, result: CellResult) -> None:
    """End the cell: how it ended, its environment, its measurements, its layers and its kernel."""
    if result.environment is not None:
        key = environment_key(result.environment)
        document = result.environment.model_dump(mode="json")
        row = {"key": key, "document": document, "first_seen_at": clock.now()}
        with session.no_autoflush:  # the cell is written once, when all of it is known
            insert_missing(session, tables.Environment, [row])
        cell.environment_key = key
    cell.status = result.status
    cell.reason = result.reason
    cell.traceback = result.traceback
    cell.executed_engine = result.executed_engine
    cell.inputs_digest = result.inputs_digest
    cell.files = result.files.model_dump(mode="json") if result.files is not None else None
    cell.duration_s = result.duration_s
    _add_measurements(session, project, cell, result)
    if result.layers or result.sensitivity is not None:
        document = {
            "reports": [report.model_dump(mode="json") for report in result.layers],
            "sensitivity": result.sensitivity and result.sensitivity.model_dump(mode="json"),
        }
        session.add(tables.Analysis(cell_id=cell.id, document=document))
    if result.conformance is not None and result.environment is not None:
        session.add(_conformance(cell, result.conformance, result.environment))
    session.flush()


def end_shard(session: Session, *, shard_id: str, attempt: int, status: CellStatus, reason: str) -> None:
    """End all cells of the shard that have not ended, for one reason."""
    shard = _held(session, shard_id, attempt)
    jobs.hold(session, shard.job_id)
    cells.end_pending(session, status=status, reason=reason, shard_ids=[shard.id])
    _release_if_ended(session, shard)


def _held(session: Session, shard_id: str, attempt: int) -> tables.Shard:
    shard = shards.fenced(session, shard_id, attempt)
    if shard is None:
        raise StaleTokenError(f"attempt {attempt} does not hold shard {shard_id} any more")
    return shard


def _release_if_ended(session: Session, shard: tables.Shard) -> None:
    if not cells.any_pending(session, shard.id):
        shard.status = shards.DONE
        shard.lease_until = None
        shard.progress = None
        settle_if_ended(session, shard.job_id)


def _add_measurements(session: Session, project: str, cell: tables.Cell, result: CellResult) -> None:
    subject, scheme = Subject.model_validate(cell.subject), Scheme.model_validate(cell.scheme)
    lane = Lane.model_validate(cell.lane)
    series = [series_row(project, subject, scheme, lane, measurement) for measurement in result.measurements]
    insert_missing(session, tables.Series, series)
    session.add_all(
        tables.Measurement(
            **measurement_row(
                new_id(), cell_id=cell.id, job_id=cell.job_id, series=row["key"], measurement=measurement
            )
        )
        for row, measurement in zip(series, result.measurements, strict=True)
    )


def _conformance(cell: tables.Cell, found: Conformance, environment: Environment) -> tables.Conformance:
    return tables.Conformance(
        id=new_id(),
        cell_id=cell.id,
        op=found.op,
        engine=found.engine,
        isa=found.isa,
        mode=cell.scheme["mode"],
        torch=environment.torch,
        recorded_at=clock.now(),
        document=found.model_dump(mode="json"),
    )


def series_row(
    project: str, subject: Subject, scheme: Scheme, lane: Lane, measurement: Measurement
) -> dict[str, Any]:
    """The series of a cell's measurement, by columns."""
    identity = series_identity(
        project=project,
        subject=subject,
        quantization=scheme.quantization,
        edge=measurement.edge,
        lane=lane,
        metric=measurement.metric,
        place=measurement.place,
    )
    columns = {
        name: identity[name]
        for name in ("project", "edge", "engine", "device", "isa", "batch", "metric", "place")
    }
    labels = {"subject": subject.label, "scheme": scheme.label}
    return {"key": series_key(identity), "identity": identity, **columns, **labels}


def measurement_row(
    row_id: str, *, cell_id: str, job_id: str, series: str, measurement: Measurement
) -> dict[str, Any]:
    """A measurement, by columns."""
    return {
        "id": row_id,
        "cell_id": cell_id,
        "job_id": job_id,
        "series_key": series,
        "edge": measurement.edge,
        "place": measurement.place,
        "metric": measurement.metric,
        "value": measurement.figure.value,
        "kind": measurement.figure.kind,
        "detail": measurement.model_dump(mode="json", exclude=COLUMNS, exclude_none=True),
    }
