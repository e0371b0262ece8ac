"""Export and import on the real store."""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from tests.measuring import measure
from tests.samples import result, small_data, spec

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.files import Files
from noisefloor.contract.measurement import CellResult, Extreme, Measurement, Noise, Spread
from noisefloor.contract.record import Record, document
from noisefloor.contract.subject import Subject
from noisefloor.contract.sums import Sums
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import ConflictError, InvalidRequestError
from noisefloor.history.rows import COLUMNS, from_csv, from_json_lines
from noisefloor.identity import series_key
from noisefloor.settings import Settings
from noisefloor.store import schema, tables
from noisefloor.store.session import open_engine, reading, writing
from noisefloor.store.trends import Window
from noisefloor.workflow.exports import ExportFormat, export
from noisefloor.workflow.imports import import_records

READERS = {ExportFormat.CSV: from_csv, ExportFormat.JSONL: from_json_lines}


def full(cell: str) -> CellResult:
    """A result with every kind of figure, and numbers that are hard to write."""
    hard = Sums(n=3, ref_sq=1e22, actual_sq=0.1 + 0.2, ref_actual=-5e-324, err_sq=1.7976931348623157e308)
    measured = (
        Measurement(edge="float32->true", figure=hard.sqnr_db(), sums=hard),
        Measurement(edge="float32->true", place='a,"b"\nç', figure=Figure.of(FigureKind.EXACT)),
        Measurement(
            edge="float32->true",
            place="leaf",
            figure=Figure.of(FigureKind.NONFINITE),
            spread=Spread(worst_sample=Extreme(index=1, sqnr_db=Figure.finite(-0.0)), lsb={-1: 2, 0: 5}),
            noise=Noise(
                runs=2,
                threads=(1, 2),
                lowest=Figure.finite(1 / 3),
                highest=Figure.finite(1 / 3),
                distinct_outputs=1,
            ),
            output_digest="0" * 32,
        ),
    )
    return result(cell, measurements=measured, files=Files(commit="a" * 40, dirty=True))


@pytest.fixture
def filled(engine: Engine, settings: Settings) -> Engine:
    """Two commits with a policy, one without a commit, one that is not settled."""
    policy = {"rules": {"max_drop_db": 0.5}, "on": {"no_baseline": "warn"}}
    with writing(engine, "test") as session:
        for number, answer in enumerate((full, full, result), start=1):
            git: dict[str, Any] = {"branch": '=main, "x"', "sha": f"{number:040x}", "ancestors": ["a" * 40]}
            job = spec(policy=policy, git=git if number < 3 else {}, name=f"job {number}")
            measure(session, settings, LocalDispatch(), job, answer)
    return engine


@pytest.fixture
def empty(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Engine]:
    """Another database of the same kind."""
    if engine.dialect.name == "sqlite":
        other = open_engine(f"sqlite:///{tmp_path}/other.db")
        schema.upgrade(other)
    else:
        server = request.getfixturevalue("postgres_server")
        template = request.getfixturevalue("postgres_template")
        other = open_engine(server.create(f"other{os.urandom(6).hex()}", template=template))
    yield other
    other.dispose()


def exported(engine: Engine, form: ExportFormat, **filters: str) -> bytes:
    pieces = export(engine, "demo", filters=filters, window=Window(), form=form)
    return b"".join(pieces)


def keep(engine: Engine, rows: list[Record], project: str = "demo") -> tuple[int, int]:
    with writing(engine, "test") as session:
        done = import_records(session, project, rows)
    return done.added, done.known


def count(engine: Engine) -> dict[str, int]:
    with reading(engine) as session:
        found = tables.Base.metadata.sorted_tables
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in found}


@pytest.mark.parametrize("form", READERS)
def test_what_was_imported_is_exported_byte_for_byte(
    filled: Engine, empty: Engine, form: ExportFormat
) -> None:
    written = exported(filled, form)
    rows = list(READERS[form](written.decode()))
    assert keep(empty, rows) == (7, 0)
    assert exported(empty, form) == written
    assert rows[0].cell.files == Files(commit="a" * 40, dirty=True)


@pytest.mark.parametrize("form", READERS)
def test_a_document_of_any_length_is_imported(
    engine: Engine, empty: Engine, settings: Settings, form: ExportFormat
) -> None:
    layers = [f"{number:0500}" for number in range(400)]
    scheme = {"flow": "eager", "mode": "static", "edge": "float32->true", "float_layers": layers}
    with writing(engine, "test") as session:
        measure(session, settings, LocalDispatch(), spec(schemes=[scheme]))
    written = exported(engine, form)
    assert keep(empty, list(READERS[form](written.decode()))) == (1, 0)
    assert exported(empty, form) == written


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("number", [1.0, 1e16, 1e22, -0.0, 1e300, 5e-324, 2**128, 3e38, 10**400])
def test_what_a_factory_is_given_splits_no_series(
    engine: Engine, empty: Engine, settings: Settings, form: ExportFormat, number: float
) -> None:
    subject = {"import": "subjects_under_test.odd:build", "args": {"a": number}, "data": small_data()}
    with writing(engine, "test") as session:
        measure(session, settings, LocalDispatch(), spec(subjects=[subject]))
    (row,) = READERS[form](exported(engine, form).decode())
    assert keep(engine, [row]) == (0, 1)
    as_given = row.cell.subject.replace(args={"a": number})
    assert keep(empty, [row.replace(cell=row.cell.replace(subject=as_given))]) == (1, 0)
    assert keep(empty, list(READERS[form](exported(empty, form).decode()))) == (0, 1)
    assert exported(empty, form) == exported(engine, form)
    with reading(engine) as session:
        (line,) = session.scalars(select(tables.Series))
    read = Subject.model_validate(line.identity["subject"])
    assert series_key({**line.identity, "subject": document(read)}) == line.key


@pytest.mark.parametrize("form", READERS)
def test_importing_twice_changes_nothing(filled: Engine, empty: Engine, form: ExportFormat) -> None:
    rows = list(READERS[form](exported(filled, form).decode()))
    keep(empty, rows)
    before = count(empty)
    assert keep(empty, rows) == (0, 7)
    assert count(empty) == before


def test_importing_where_it_came_from_changes_nothing(filled: Engine) -> None:
    before = count(filled), exported(filled, ExportFormat.JSONL)
    assert keep(filled, list(from_json_lines(before[1].decode()))) == (0, 7)
    assert (count(filled), exported(filled, ExportFormat.JSONL)) == before


def test_no_figure_is_written_as_nan_or_infinity(filled: Engine) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(filled, ExportFormat.CSV).decode(), newline="")))
    assert {row["kind"]: row["value"] for row in rows} == {
        "finite": "41.5",
        "exact": "",
        "nonfinite": "",
    }


def test_filters_hold_for_an_export(filled: Engine) -> None:
    lines = exported(filled, ExportFormat.JSONL, place="leaf").decode().splitlines()
    assert {json.loads(line)["place"] for line in lines} == {"leaf"}
    assert exported(filled, ExportFormat.JSONL, place="nowhere") == b""
    assert exported(filled, ExportFormat.CSV, place="nowhere").decode() == ",".join(COLUMNS) + "\n"


def test_chunks_make_no_difference(filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = exported(filled, ExportFormat.CSV)
    monkeypatch.setattr("noisefloor.workflow.exports.CHUNK", 2)
    assert exported(filled, ExportFormat.CSV) == whole


def test_imported_jobs_say_so_and_measured_ones_do_not(filled: Engine, empty: Engine) -> None:
    rows = list(from_json_lines(exported(filled, ExportFormat.JSONL).decode()))
    keep(empty, rows)
    for engine, imported in ((filled, False), (empty, True)):
        with reading(engine) as session:
            assert set(session.scalars(select(tables.Job.imported))) == {imported}


def test_rows_of_another_project_are_kept_as_this_ones(filled: Engine) -> None:
    rows = list(from_json_lines(exported(filled, ExportFormat.JSONL).decode()))
    assert keep(filled, rows, "copy") == (7, 0)
    assert keep(filled, rows, "copy") == (0, 7)
    with reading(filled) as session:
        assert session.scalar(select(func.count()).where(tables.Job.project == "copy")) == 3
        assert session.scalar(select(func.count()).where(tables.Series.project == "copy")) == 3
    copied = b"".join(export(filled, "copy", filters={}, window=Window(), form=ExportFormat.JSONL)).decode()
    assert [json.loads(line)["value"] for line in copied.splitlines()] == [
        row.measurement.figure.value for row in rows
    ]


def test_ids_of_something_else_are_a_conflict(filled: Engine, empty: Engine) -> None:
    rows = list(from_json_lines(exported(filled, ExportFormat.JSONL).decode()))
    keep(empty, rows)
    first, other = rows[0], rows[-1]
    with pytest.raises(ConflictError, match=f"cell {other.cell.id} is not the one"):
        keep(empty, [first.replace(cell=first.cell.replace(id=other.cell.id), id="f" * 26)])
    with pytest.raises(ConflictError, match="already as another one"):
        keep(empty, [first.replace(id=other.id)])
    with pytest.raises(ConflictError, match="already as another one"):
        keep(empty, [first.replace(id="f" * 26)])
    with pytest.raises(ConflictError, match="is not the one at place 0"):
        keep(empty, [first.replace(cell=first.cell.replace(id="f" * 26), id="f" * 26)])
    with pytest.raises(ConflictError, match="another project"):
        keep(empty, [first.replace(project="thief")], "thief")
    assert count(empty)["measurements"] == 7


def test_a_job_that_was_measured_here_takes_no_rows_of_an_import(filled: Engine) -> None:
    (row, *_) = from_json_lines(exported(filled, ExportFormat.JSONL).decode())
    forged = row.replace(id="f" * 26, measurement=row.measurement.replace(place="elsewhere"), finding=None)
    assert keep(filled, [forged]) == (0, 1)
    assert count(filled)["measurements"] == 7


def test_an_import_without_ancestors_or_environment_is_kept(empty: Engine, filled: Engine) -> None:
    rows = list(from_json_lines(exported(filled, ExportFormat.JSONL).decode()))
    bare = [row.replace(environment=None, finding=None) for row in rows]
    assert keep(empty, bare) == (7, 0)
    assert count(empty)["findings"] == 0
    assert b'"torch"' not in exported(empty, ExportFormat.JSONL)


def line(filled: Engine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(exported(filled, ExportFormat.JSONL).decode().splitlines()[0])
    return found


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"value": 99.0}, "rows.1.value"),
        ({"verdict": "pass"}, "rows.1.verdict"),
        ({"series": "0" * 32}, "rows.1.series"),
        ({"engine": "onednn"}, "rows.1.engine"),
        ({"job": None}, "rows.1.job"),
        ({"id": "x"}, "rows.1.id"),
        ({"surplus": 1}, "rows.1"),
    ],
)
def test_an_edit_that_the_documents_do_not_bear_is_named(
    filled: Engine, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        list(from_json_lines(json.dumps({**line(filled), **change})))
    assert raised.value.errors[0].field == field


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_no_figure_that_is_no_number_comes_in(filled: Engine, number: str) -> None:
    row = line(filled)
    text = json.dumps(row).replace(repr(row["value"]), number)
    assert number in text
    with pytest.raises(InvalidRequestError):
        list(from_json_lines(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "header"),
        ("a,b\n1,2\n", "header"),
        (",".join(COLUMNS) + "\n1,2\n", "columns"),
        (",".join(COLUMNS) + "\n" + ",".join("x" for _ in COLUMNS) + "\n", "not JSON"),
        (",".join(COLUMNS) + "\n" + ",".join("" for _ in COLUMNS) + "\n", "rows.1"),
        (",".join(COLUMNS) + '\n"a', "not CSV"),
    ],
)
def test_what_is_no_export_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        list(from_csv(text))


def test_parquet_holds_the_same_rows_and_types(filled: Engine, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "x.parquet").write_bytes(exported(filled, ExportFormat.PARQUET))
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == list(COLUMNS)
    assert (str(table.schema.field("value").type), str(table.schema.field("batch").type)) == (
        "double",
        "int64",
    )
    lines = [json.loads(text) for text in exported(filled, ExportFormat.JSONL).decode().splitlines()]
    assert table.column("value").to_pylist() == [row["value"] for row in lines]
    assert [json.loads(text) for text in table.column("cell").to_pylist()] == [row["cell"] for row in lines]
