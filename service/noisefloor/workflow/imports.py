"""Import: measurements that were exported elsewhere. Doing it twice changes nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from noisefloor import plan
from noisefloor.contract.analysis import Analysis
from noisefloor.contract.job import CellStatus, Limits
from noisefloor.contract.record import Imported, Record
from noisefloor.errors import ConflictError
from noisefloor.identity import cell_identity, cell_key, derived_id, environment_key
from noisefloor.store import clock, jobs, records, shards, tables
from noisefloor.store.upsert import insert_missing
from noisefloor.workflow.record import measurement_row, series_row

Rows = dict[str, dict[str, Any]]


def import_records(session: Session, project: str, given: Sequence[Record]) -> Imported:
    """Keep what is not there yet, marked as imported. A job that was measured here is left as it is.

    Rows of another project are kept under ids that follow from theirs. Raises `ConflictError` where ids of
    rows are those of something else.
    """
    now = clock.now()
    jobs.ensure_project(session, project, now)
    jobs.lock_project(session, project)
    rows = [_moved(record, project) if record.project != project else record for record in given]
    homes = records.homes(session, list({row.job.id for row in rows}))
    astray = next((row.job.id for row in rows if homes.get(row.job.id, (project, True))[0] != project), None)
    if astray is not None:
        raise ConflictError(f"job {astray} is one of another project")
    before = records.places(session, [row.id for row in rows])
    rows = [row for row in rows if homes.get(row.job.id, (project, True))[1]]
    _insert(session, project, rows, now)
    added = len({row.id for row in rows} - before.keys())
    return Imported(rows=len(given), added=added, known=len(given) - added)


def _moved(record: Record, project: str) -> Record:
    """The record as one of this project."""

    def moved(one: str) -> str:
        return derived_id(project, one)

    finding = record.finding
    if finding is not None and finding.baseline is not None:
        was = finding.baseline
        baseline = was.replace(measurement_id=moved(was.measurement_id), job_id=moved(was.job_id))
        finding = finding.replace(baseline=baseline)
    return record.replace(
        project=project,
        id=moved(record.id),
        job=record.job.replace(id=moved(record.job.id)),
        cell=record.cell.replace(id=moved(record.cell.id)),
        finding=finding,
    )


def _insert(session: Session, project: str, rows: Sequence[Record], now: datetime) -> None:
    environments: Rows = {}
    of_jobs: Rows = {}
    of_shards: Rows = {}
    cells: Rows = {}
    series: Rows = {}
    measured: Rows = {}
    findings: Rows = {}
    for row in rows:
        key = environment_key(row.environment) if row.environment is not None else None
        if row.environment is not None and key is not None:
            document = row.environment.model_dump(mode="json")
            environments[key] = {"key": key, "document": document, "first_seen_at": now}
        of_jobs.setdefault(row.job.id, _job(project, row))
        of_shards.setdefault(row.job.id, _shard(project, row))
        cells.setdefault(row.cell.id, _cell(project, row, key))
        line = series_row(project, row.cell.subject, row.cell.scheme, row.cell.lane, row.measurement)
        series[line["key"]] = line
        measured[row.id] = measurement_row(
            row.id, cell_id=row.cell.id, job_id=row.job.id, series=line["key"], measurement=row.measurement
        )
        if row.finding is not None:
            findings[row.id] = _finding(row)
    for table, found in (
        (tables.Environment, environments),
        (tables.Job, of_jobs),
        (tables.Shard, of_shards),
        (tables.Cell, cells),
    ):
        insert_missing(session, table, list(found.values()))
    _require_own_cells(session, cells)
    insert_missing(session, tables.Series, list(series.values()))
    insert_missing(session, tables.Measurement, list(measured.values()))
    _require_own_measurements(session, measured)
    insert_missing(session, tables.Finding, list(findings.values()))


def _require_own_cells(session: Session, cells: Rows) -> None:
    """Each cell is there under its own id: what was left out was there already, and not something else."""
    owners = records.jobs_of_cells(session, list(cells))
    for cell_id, cell in cells.items():
        if owners.get(cell_id) != cell["job_id"]:
            raise ConflictError(
                f"cell {cell_id} is not the one at place {cell['ordinal']} of job {cell['job_id']}"
            )


def _require_own_measurements(session: Session, measured: Rows) -> None:
    places = records.places(session, list(measured))
    for row_id, row in measured.items():
        if places.get(row_id) != (row["cell_id"], row["series_key"]):
            raise ConflictError(
                f"measurement {row_id} of cell {row['cell_id']} is there already as another one"
            )


def _job(project: str, row: Record) -> dict[str, Any]:
    job = row.job
    # The job as it was posted is not known: its first cell stands for it.
    spec = plan.alone(_planned(row), limits=Limits(), analysis=Analysis()).replace(name=job.name, git=job.git)
    return {
        "id": job.id,
        "project": project,
        "name": job.name,
        "spec": spec.model_dump(mode="json", by_alias=True),
        "git": job.git.model_dump(mode="json"),
        "status": job.status,
        "verdict": job.verdict,
        "verdict_message": job.message,
        "cancel_requested": False,
        "branch": job.git.branch,
        "sha": job.git.sha,
        "measured_at": job.measured_at,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "imported": True,
    }


def _planned(row: Record) -> plan.Cell:
    cell = row.cell
    return plan.Cell(ordinal=cell.ordinal, subject=cell.subject, scheme=cell.scheme, lane=cell.lane)


def _shard(project: str, row: Record) -> dict[str, Any]:
    """Cells are part of a shard; those of an imported job of one, which has the job's id."""
    return {
        "id": row.job.id,
        "job_id": row.job.id,
        "project": project,
        "isa": row.cell.lane.isa,
        "threads": row.cell.lane.threads,
        "priority": 0,
        "status": shards.DONE,
        "attempt": 0,
        "tries": 0,
    }


def _cell(project: str, row: Record, environment: str | None) -> dict[str, Any]:
    cell = row.cell
    identity = cell_identity(
        project=project, subject=cell.subject, quantization=cell.scheme.quantization, lane=cell.lane
    )
    return {
        "id": cell.id,
        "job_id": row.job.id,
        "shard_id": row.job.id,
        "ordinal": cell.ordinal,
        "subject": cell.subject.model_dump(mode="json", by_alias=True),
        "scheme": cell.scheme.model_dump(mode="json", by_alias=True),
        "lane": cell.lane.model_dump(mode="json"),
        "lineage": cell_key(identity),
        "status": CellStatus.DONE,
        "executed_engine": cell.executed_engine,
        "inputs_digest": cell.inputs_digest,
        "files": cell.files.model_dump(mode="json") if cell.files is not None else None,
        "environment_key": environment,
        "duration_s": cell.duration_s,
    }


def _finding(row: Record) -> dict[str, Any]:
    assert row.finding is not None  # noqa: S101 - asked for with a finding only
    return {
        "id": row.id,
        "job_id": row.job.id,
        "cell_id": row.cell.id,
        "measurement_id": row.id,
        "verdict": row.finding.verdict,
        "floor_db": row.finding.floor_db,
        "document": row.finding.model_dump(mode="json"),
    }
