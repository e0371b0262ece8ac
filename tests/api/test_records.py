"""Export and import over HTTP and on the command line, on both databases."""

import json
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import job
from typer.testing import CliRunner

from noisefloor.cli.main import app
from noisefloor.errors import InvalidRequestError
from noisefloor.store.session import writing

PROJECT = "/v1/projects/demo"


@pytest.fixture
def filled(api: httpx.Client, engine: Engine) -> httpx.Client:
    """Three commits of two cells."""
    for number in range(3):
        git = {"branch": "main", "sha": f"{number:040x}"}
        api.post(f"{PROJECT}/jobs", json=job(git=git, lanes={"engine": ["x86", "onednn"]}))
        with writing(engine, "test") as session:
            finish(session, claimed(session))
    return api


def cli(api: httpx.Client, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", str(api.base_url)])


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("csv", "text/csv; charset=utf-8"),
        ("jsonl", "application/jsonl"),
        ("parquet", "application/vnd.apache.parquet"),
    ],
)
def test_an_export_is_streamed_as_a_file(filled: httpx.Client, form: str, kind: str) -> None:
    with filled.stream("GET", f"{PROJECT}/export", params={"format": form, "engine": "x86"}) as answer:
        answer.read()
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-disposition"] == f'attachment; filename="demo.{form}"'
    assert "content-length" not in answer.headers
    assert answer.content


def test_an_export_is_imported_over_http(filled: httpx.Client) -> None:
    for form, kind in (("csv", "text/csv"), ("jsonl", "application/jsonl")):
        text = filled.get(f"{PROJECT}/export", params={"format": form}).content
        answer = filled.post(f"/v1/projects/{form}/import", content=text, headers={"Content-Type": kind})
        assert answer.json() == {"rows": 6, "added": 6, "known": 0}
    trends = filled.get("/v1/projects/csv/trends").json()["items"]
    assert [[point["imported"] for point in line["points"]] for line in trends] == [[True] * 3] * 2


@pytest.mark.parametrize(
    ("content", "kind", "status", "field"),
    [
        (b"{}", "application/json", 422, "header.content-type"),
        (b"", "", 422, "header.content-type"),
        (b"PAR1\xff", "application/vnd.apache.parquet", 422, "header.content-type"),
        (b"\xff", "text/csv", 400, None),
        (b"[" * 100_000, "application/jsonl", 422, "rows.1"),
        (b"{}", "application/jsonl", 422, "rows.1"),
    ],
)
def test_what_is_no_export_is_a_problem(
    api: httpx.Client, content: bytes, kind: str, status: int, field: str | None
) -> None:
    answer = api.post(f"{PROJECT}/import", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert [error["field"] for error in answer.json().get("errors", [])] == ([field] if field else [])


def test_parquet_without_pyarrow_is_a_problem_that_says_what_to_install(
    filled: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    answer = filled.get(f"{PROJECT}/export", params={"format": "parquet"})
    assert answer.status_code == 501
    assert answer.json()["type"] == "urn:noisefloor:problem:missing-extra"
    assert "noisefloor[parquet]" in answer.json()["detail"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_command_line_writes_and_reads_files(filled: httpx.Client, tmp_path: Path, form: str) -> None:
    file = str(tmp_path / f"x.{form}")
    wrote = cli(filled, "export", "--project", "demo", "--format", form, "--output", file)
    assert wrote.exit_code == 0, wrote.output
    for expected in ("6 rows: 6 added, 0 known already\n", "6 rows: 0 added, 6 known already\n"):
        kept = cli(filled, "import", file, "--project", form)
        assert (kept.exit_code, kept.output) == (0, expected)
    counted = filled.get(f"/v1/projects/{form}/export", params={"format": "jsonl"}).text.splitlines()
    assert [json.loads(line)["value"] for line in counted] == [41.5] * 6


def test_the_command_line_sends_large_files_in_pieces(filled: httpx.Client, tmp_path: Path) -> None:
    text = filled.get(f"{PROJECT}/export", params={"format": "csv"}).text
    header, *rows = text.splitlines(keepends=True)
    (tmp_path / "large.csv").write_text(header + "".join(rows * 150))
    kept = cli(filled, "import", str(tmp_path / "large.csv"), "--project", "large")
    assert kept.output == "900 rows: 6 added, 894 known already\n"
    assert len(text) * 150 > 2**20


def test_a_file_that_is_none_is_refused(api: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1nothing")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    refusals = {
        "x.txt": "none of",
        "none.csv": "cannot be opened",
        "x.parquet": "not Parquet",
        "x.csv": "rows from 1",
    }
    for name, said in refusals.items():
        refused = cli(api, "import", str(tmp_path / name))
        assert isinstance(refused.exception, InvalidRequestError)
        assert said in str(refused.exception)
