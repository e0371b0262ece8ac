"""What the documents say is so."""

import json
import re
import shlex

from tests.service import ROOT, LiveService
from typer.main import get_command

from noisefloor import errors
from noisefloor.cli.main import app
from noisefloor.client.http import RefusedError

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
