"""Records as rows: columns for readers, then the documents that an import is made of. CSV and JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from pydantic import ValidationError

from noisefloor.contract.record import DOCUMENTS, Record, document
from noisefloor.contract.resources import FieldError
from noisefloor.errors import InvalidRequestError
from noisefloor.identity import canonical, environment_key, series_identity, series_key
from noisefloor.problems import invalid_request, shown

PARTS = ("edge", "engine", "device", "isa", "batch", "place", "metric")
READERS = ("sha", "branch", "at", "subject", "scheme", *PARTS, "value", "kind", "floor_db", "verdict")
KEYS = ("environment_key", "series", "project", "job_id", "cell_id", "id")
COLUMNS = (*READERS, *KEYS, *DOCUMENTS)

# A scheme may name thousands of layers in one field. The limit is the process's, which reads no other CSV,
# and is the largest that every platform takes: a request's own limit bounds what is held.
csv.field_size_limit(2**31 - 1)

Row = dict[str, Any]


def row_of(record: Record) -> Row:
    """The record by columns. What readers' columns say follows from the documents."""
    cell, measurement, finding = record.cell, record.measurement, record.finding
    identity = series_identity(
        project=record.project,
        subject=cell.subject,
        quantization=cell.scheme.quantization,
        edge=measurement.edge,
        lane=cell.lane,
        metric=measurement.metric,
        place=measurement.place,
    )
    row = {
        "sha": record.job.git.sha,
        "branch": record.job.git.branch,
        "at": record.job.measured_at.isoformat().replace("+00:00", "Z"),
        "subject": cell.subject.label,
        "scheme": cell.scheme.label,
        **{name: identity[name] for name in PARTS},
        "value": measurement.figure.value,
        "kind": measurement.figure.kind.value,
        "floor_db": finding.floor_db if finding is not None else None,
        "verdict": finding.verdict.value if finding is not None else None,
        "environment_key": environment_key(record.environment) if record.environment else None,
        "series": series_key(identity),
        "project": record.project,
        "job_id": record.job.id,
        "cell_id": cell.id,
        "id": record.id,
        **{name: document(getattr(record, name)) for name in DOCUMENTS},
    }
    return {name: row[name] for name in COLUMNS}


def flat(row: Row) -> Row:
    """The row with its documents as text, for formats that have no nesting."""
    return {**row, **{name: _text(row[name]) for name in DOCUMENTS}}


def csv_lines(rows: Iterable[Row], *, header: bool) -> str:
    """Rows as RFC 4180 has them, but for the line's end, which is a line feed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(flat(row) for row in rows)
    return text.getvalue()


def json_lines(rows: Iterable[Row]) -> str:
    """A JSON object a line."""
    return "".join(f"{canonical(row).decode()}\n" for row in rows)


def from_csv(text: str) -> Iterator[Record]:
    """Records of CSV. Raises `InvalidRequestError` naming row and column."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(reader.fieldnames or ()) != COLUMNS:
            _refuse("(header)", "these are not the columns of an export", reader.fieldnames, list(COLUMNS))
        for number, cells in enumerate(reader, start=1):
            if None in cells or None in cells.values():
                _refuse(f"rows.{number}", f"has not {len(COLUMNS)} columns", None, None)
            yield _record_of_text(number, cells)
    except csv.Error as error:
        _refuse(f"line {reader.line_num}", f"is not CSV: {error}", None, None)


def from_json_lines(text: str) -> Iterator[Record]:
    """Records of JSON lines. Raises `InvalidRequestError` naming row and field."""
    lines = (line for line in text.split("\n") if line.strip())
    for number, line in enumerate(lines, start=1):
        row = _parsed(line, f"rows.{number}")
        if not isinstance(row, dict) or row.keys() != set(COLUMNS):
            _refuse(f"rows.{number}", "has not the fields of an export", None, list(COLUMNS))
        record = _validated(number, row)
        _require_same(number, row, row_of(record))
        yield record


def _record_of_text(number: int, cells: Mapping[str, str]) -> Record:
    documents = {
        name: _parsed(cells[name], f"rows.{number}.{name}") if cells[name] else None for name in DOCUMENTS
    }
    record = _validated(number, {**cells, **documents})
    expected = {name: "" if value is None else str(value) for name, value in flat(row_of(record)).items()}
    _require_same(number, dict(cells), expected)
    return record


def _validated(number: int, row: Mapping[str, Any]) -> Record:
    wanted = {name: row[name] for name in ("project", "id", *DOCUMENTS)}
    try:
        record = Record.model_validate(wanted)
    except ValidationError as error:
        found = [{**one, "loc": ("rows", number, *one["loc"])} for one in error.errors()]
        raise invalid_request(found) from None
    for untrue in record.untrue():
        _refuse(*untrue.below(f"rows.{number}"))
    return record


def _require_same(number: int, given: Row, expected: Row) -> None:
    """What readers' columns say is what the documents say: an edit of one alone would be lost."""
    for name, value in expected.items():
        if given[name] != value:
            _refuse(
                f"rows.{number}.{name}", "is not what the row's documents say", given[name], [shown(value)]
            )


def _parsed(text: str, field: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        _refuse(field, f"is not JSON: {error}", text, None)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _text(value: Any) -> str | None:
    return canonical(value).decode() if value is not None else None


def _refuse(field: str, message: str, value: Any, accepted: list[Any] | None) -> NoReturn:
    error = FieldError(field=field, message=message, value=shown(value), accepted=accepted)
    raise InvalidRequestError(f"{field}: {message}", [error])
