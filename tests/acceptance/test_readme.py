"""What the documents say is so."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.service import ROOT, LiveService
from typer.main import get_command

from noisefloor import errors
from noisefloor.cli.main import app
from noisefloor.cli.options import DEFAULT_PROJECT
from noisefloor.client import Client, RefusedError

README = (ROOT / "README.md").read_text()


def test_the_readmes_curl_example_gives_202_and_then_its_results(live_service: LiveService) -> None:
    command = re.search(r"^curl .*?\n}'$", README, re.DOTALL | re.MULTILINE)
    assert command is not None
    _, _, method, address, _, header, _, body = shlex.split(command[0])
    path = address.removeprefix("http://127.0.0.1:8642")
    name, _, value = header.partition(": ")
    accepted = live_service.http.request(method, path, content=body, headers={name: value})
    assert accepted.status_code == 202
    assert json.loads(body)["name"] == accepted.json()["name"]
    job = live_service.http.get(accepted.headers["Location"], params={"wait": 60}).json()
    assert job["verdict"] in {"pass", "warn"}  # warn where an engine is not in this build of torch
    assert [row["lane"] for row in job["results"]] == ["qnnpack", "onednn", "x86", "fbgemm"]
    assert {round(row["figure"]["value"], 3) for row in job["results"] if row["figure"]} == {41.496}


def test_every_type_of_problem_is_documented() -> None:
    documented = set(re.findall(r"`([a-z-]+)`", (ROOT / "docs" / "problems.md").read_text()))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, errors.NoisefloorError)}
    assert codes - {"internal", "stale-token"} <= documented
    assert RefusedError.code not in documented


def test_the_verbs_that_the_readme_names_exist() -> None:
    verbs = set(re.findall(r"^noisefloor ([a-z]+)", README, re.MULTILINE))
    assert verbs
    assert verbs <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_examples_over_http_are_of_the_project_that_the_command_line_takes() -> None:
    documents = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    named = {name for text in documents for name in re.findall(r"/projects/([a-z0-9-]+)", text)}
    assert named == {DEFAULT_PROJECT}


def test_the_settings_of_the_command_line_are_in_the_readme() -> None:
    for name in ("NOISEFLOOR_URL", "NOISEFLOOR_PROJECT", "NOISEFLOOR_TOKEN"):
        assert re.search(rf"^\| `{name}` \|", README, re.MULTILINE), name


CLIENT = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)


def test_the_clients_example_runs(live_service: LiveService) -> None:
    (example,) = CLIENT
    code = example.replace("http://127.0.0.1:8642", live_service.url)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    verdict, *figures = ran.stdout.splitlines()
    assert verdict.startswith("pass")
    assert [line.split()[:2] for line in figures] == [["x86", "float32->true"], ["onednn", "float32->true"]]


def test_users_see_the_clients_types(tmp_path: Path) -> None:
    (example,) = CLIENT
    (tmp_path / "example.py").write_text(f"{example}\nreveal_type(cell.measurements[0].figure.value)\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "example.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPY_CACHE_DIR": str(ROOT / ".mypy_cache" / "users")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Revealed type is "float | None"' in checked.stdout, checked.stdout
    assert "Success" in checked.stdout


def test_the_client_documents_every_method() -> None:
    documented = set(re.findall(r"`([a-z_]+)\(", (ROOT / "docs" / "client.md").read_text()))
    assert documented == {name for name in vars(Client) if not name.startswith("_")}
