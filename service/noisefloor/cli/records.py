"""export and import: measurements as files."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from noisefloor.cli.options import DEFAULT_PROJECT, DEFAULT_URL, Project, Token, Url, client
from noisefloor.client.http import RefusedError
from noisefloor.contract.record import DOCUMENTS
from noisefloor.errors import InvalidRequestError, MissingExtraError
from noisefloor.history.rows import json_lines
from noisefloor.workflow.exports import ExportFormat

SENT_AT_ONCE_CHARS = 200_000  # a service takes 1 MiB in one request, and a character at most four bytes
ROWS_AT_ONCE = 500
JSONL, CSV = "application/jsonl", "text/csv"

Filter = typer.Option(rich_help_panel="Filters")
Form = Annotated[ExportFormat, typer.Option("--format", help="csv, jsonl or parquet")]
Piece = tuple[str, str, int]


def export(
    output: Annotated[str, typer.Option("--output", "-o", help="File; - is standard output.")] = "-",
    format: Form = ExportFormat.CSV,  # noqa: A002 - the option's name
    subject: Annotated[str | None, Filter] = None,
    scheme: Annotated[str | None, Filter] = None,
    edge: Annotated[str | None, Filter] = None,
    engine: Annotated[str | None, Filter] = None,
    metric: Annotated[str | None, Filter] = None,
    branch: Annotated[str | None, Filter] = None,
    since: Annotated[str | None, Filter] = None,
    until: Annotated[str | None, Filter] = None,
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
) -> None:
    """Write a project's measurements to a file that `import` reads, or anything else that reads tables."""
    given = {
        "format": format.value,
        "subject": subject,
        "scheme": scheme,
        "edge": edge,
        "engine": engine,
        "metric": metric,
        "branch": branch,
        "since": since,
        "until": until,
    }
    with client(url, project, token) as service:
        pieces = service.export({name: value for name, value in given.items() if value is not None})
        if output == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return
        first = next(pieces, b"")  # a refusal leaves the file as it was
        with _opened(output, "wb") as file:
            file.write(first)
            for piece in pieces:
                file.write(piece)


def import_(
    file: Annotated[str, typer.Argument(help="A .csv, .jsonl or .parquet that `export` wrote.")],
    url: Url = DEFAULT_URL,
    project: Project = DEFAULT_PROJECT,
    token: Token = None,
) -> None:
    """Keep a file's measurements on the service. What is there already stays as it is; twice is once."""
    readers = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    reader = readers.get(Path(file).suffix.lower())
    if reader is None:
        raise InvalidRequestError(f"{file} is none of {', '.join(readers)}")
    rows = added = 0
    with client(url, project, token) as service:
        for text, media_type, first in reader(file):
            try:
                done = service.import_rows(text, media_type)
            except RefusedError as error:
                said = f"{file}, rows from {first}: {error.detail}"
                raise InvalidRequestError(said, error.errors) from None
            rows, added = rows + done.rows, added + done.added
    typer.echo(f"{rows} rows: {added} added, {rows - added} known already")


def _csv(file: str) -> Iterator[Piece]:
    with _opened(file, "r", encoding="utf-8", newline="") as opened:
        try:
            reader = csv.reader(opened, strict=True)
            header = next(reader, [])
            for lines, first in _together(_csv_line(row) for row in reader):
                yield _csv_line(header) + lines, CSV, first
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidRequestError(f"{file} is not CSV: {error}") from None


def _csv_line(row: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _json_lines(file: str) -> Iterator[Piece]:
    with _opened(file, "r", encoding="utf-8", newline="\n") as opened:
        try:
            for lines, first in _together(opened):
                yield lines, JSONL, first
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"{file} is not JSON lines: {error}") from None


def _parquet(file: str) -> Iterator[Piece]:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'noisefloor[parquet]'") from None
    with _opened(file, "rb") as opened:
        try:
            batches = pa.parquet.ParquetFile(opened).iter_batches(batch_size=ROWS_AT_ONCE)
            rows = (_with_documents(row) for batch in batches for row in batch.to_pylist())
            for lines, first in _together(json_lines([row]) for row in rows):
                yield lines, JSONL, first
        except (pa.ArrowException, ValueError) as error:
            raise InvalidRequestError(f"{file} is not Parquet of an export: {error}") from None


def _with_documents(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, **{name: json.loads(row[name]) for name in DOCUMENTS if row.get(name)}}


def _together(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Lines put together to what is sent at once, and the number of the first of them."""
    held: list[str] = []
    size, first = 0, 1
    for number, line in enumerate(lines, start=1):
        if held and (len(held) == ROWS_AT_ONCE or size + len(line) > SENT_AT_ONCE_CHARS):
            yield "".join(held), first
            held, size, first = [], 0, number
        held.append(line)
        size += len(line)
    if held:
        yield "".join(held), first


def _opened(file: str, mode: str, **options: Any) -> Any:
    try:
        return Path(file).open(mode, **options)
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be opened: {error.strerror}") from None
