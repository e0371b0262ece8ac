"""Export: a project's measurements as a stream of rows, a chunk a transaction."""

import io
from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import ModuleType
from typing import Any

from sqlalchemy import Engine

from noisefloor.contract.record import Record
from noisefloor.errors import MissingExtraError
from noisefloor.history.rows import COLUMNS, Row, csv_lines, flat, json_lines, row_of
from noisefloor.store import records
from noisefloor.store.records import Whole
from noisefloor.store.session import reading
from noisefloor.store.trends import Window
from noisefloor.workflow.evaluate import figure_of

CHUNK = 500
NUMBERS = {"value", "floor_db"}


class ExportFormat(StrEnum):
    """What an export is written as."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        return {
            ExportFormat.CSV: "text/csv; charset=utf-8",
            ExportFormat.JSONL: "application/jsonl",
            ExportFormat.PARQUET: "application/vnd.apache.parquet",
        }[self]


def export(
    engine: Engine,
    project: str,
    *,
    filters: Mapping[str, str | int],
    window: Window,
    form: ExportFormat,
) -> Iterator[bytes]:
    """The measurements of settled jobs, in pieces. Raises `MissingExtraError` for Parquet without pyarrow."""
    chunks = _chunks(engine, project, filters, window)
    if form is ExportFormat.PARQUET:
        return _parquet(_pyarrow(), chunks)
    return _csv(chunks) if form is ExportFormat.CSV else (json_lines(rows).encode() for rows in chunks)


def _chunks(
    engine: Engine, project: str, filters: Mapping[str, str | int], window: Window
) -> Iterator[list[Row]]:
    after = ("", "")
    while True:
        with reading(engine) as session:
            found = records.page(session, project, filters=filters, window=window, after=after, limit=CHUNK)
            rows = [row_of(_record(project, one)) for one in found]
        if not found:
            return
        after = (found[-1].job.id, found[-1].measurement.id)
        yield rows


def _record(project: str, one: Whole) -> Record:
    job, cell, measurement = one.job, one.cell, one.measurement
    return Record.model_validate(
        {
            "project": project,
            "id": measurement.id,
            "job": {
                "id": job.id,
                "name": job.name,
                "git": job.git,
                "status": job.status,
                "verdict": job.verdict,
                "message": job.verdict_message,
                "measured_at": job.measured_at,
                "created_at": job.created_at,
                "finished_at": job.finished_at,
            },
            "cell": {
                "id": cell.id,
                "ordinal": cell.ordinal,
                "subject": cell.subject,
                "scheme": cell.scheme,
                "lane": cell.lane,
                "executed_engine": cell.executed_engine,
                "inputs_digest": cell.inputs_digest,
                "files": cell.files,
                "duration_s": cell.duration_s,
            },
            "environment": one.environment,
            "measurement": {
                "edge": measurement.edge,
                "place": measurement.place,
                "metric": measurement.metric,
                "figure": figure_of(measurement),
                **measurement.detail,
            },
            "finding": one.finding.document if one.finding is not None else None,
        }
    )


def _csv(chunks: Iterator[list[Row]]) -> Iterator[bytes]:
    yield csv_lines([], header=True).encode()
    for rows in chunks:
        yield csv_lines(rows, header=False).encode()


def _pyarrow() -> ModuleType:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'noisefloor[parquet]'") from None
    module: ModuleType = pyarrow
    return module


def _parquet(pa: Any, chunks: Iterator[list[Row]]) -> Iterator[bytes]:
    kinds = {"batch": pa.int64(), **dict.fromkeys(NUMBERS, pa.float64())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    written = Drain()
    with pa.parquet.ParquetWriter(written, schema) as writer:
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist([flat(row) for row in rows], schema=schema))
            yield written.drained()
    yield written.drained()


class Drain(io.RawIOBase):
    """A file that is read off while it is written, so that it is never whole in memory."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._size += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        return self._size

    def drained(self) -> bytes:
        """What was written since this was asked last."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
