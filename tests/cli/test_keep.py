"""`noisefloor policy` and `noisefloor suite` against a real service, on both databases."""

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml
from tests.ci.events import REPOSITORY
from tests.ci.suites import suite
from tests.service import ROOT
from typer.testing import CliRunner

from noisefloor.cli.main import app
from noisefloor.cli.options import read_document
from noisefloor.errors import InvalidRequestError, NoisefloorError

PROJECT = "/v1/projects/demo"


def keep(api: httpx.Client, *arguments: str) -> str:
    """What the command prints; raises what it refuses."""
    command = [*arguments, "--url", str(api.base_url), "--project", "demo"]
    answer = CliRunner().invoke(app, command, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_the_documents_policy_is_kept_as_it_is_written(api: httpx.Client, tmp_path: Path) -> None:
    written = re.search(
        r"^```yaml\n(.*?)^```", (ROOT / "docs" / "gate.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert written is not None
    file = tmp_path / "policy.yaml"
    file.write_text(written[1])
    assert keep(api, "policy", "int8", str(file)) == "policy int8 of project demo, version 1\n"
    kept = api.get(f"{PROJECT}/policies/int8").json()
    assert kept["policy"]["on"]["unsupported"] == "warn"
    assert json.loads(keep(api, "policy", "int8", str(file), "--format", "json")) == kept


def test_a_policy_is_not_kept_under_another_name(api: httpx.Client, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("name: int8\n")
    with pytest.raises(NoisefloorError, match="name"):
        keep(api, "policy", "fp8", str(file))


@pytest.mark.parametrize("verb", ["policy", "suite"])
@pytest.mark.parametrize("name", ["na/me", "", "Int8", "a" * 64])
def test_what_a_name_may_be_is_said_before_it_is_sent(tmp_path: Path, verb: str, name: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("{}")
    command = [verb, name, str(file), "--url", "http://127.0.0.1:9"]
    with pytest.raises(InvalidRequestError, match=f"^'{name}' is no name: give a-z, 0-9"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_a_suite_is_kept_with_its_job(api: httpx.Client, tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(yaml.safe_dump(suite(events=["push"])))
    said = keep(api, "suite", "int8", str(file))
    assert said == f"suite int8 of project demo: {REPOSITORY}, on push\n"
    assert api.get(f"{PROJECT}/suites/int8").json()["job"]["lanes"]["engine"] == ["x86"]


def test_words_of_yaml_are_words_and_only_true_and_false_are_not(tmp_path: Path) -> None:
    file = tmp_path / "words.yaml"
    file.write_text("{on: off, yes: no, y: n, t: true, f: False}")
    assert read_document(str(file)) == {"on": "off", "yes": "no", "y": "n", "t": True, "f": False}


def test_numbers_of_yaml_are_numbers_and_commits_are_not(tmp_path: Path) -> None:
    file = tmp_path / "numbers.yaml"
    file.write_text("[1e-3, -1E+3, 1.5e3, .5e1, 2.5, 7, 12345e67, e12, 1e3]")
    assert read_document(str(file)) == [0.001, -1000.0, 1500.0, 5.0, 2.5, 7, "12345e67", "e12", "1e3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "policy: {rules: {floor_db: 60}}\nname: a\n'policy': {rules: {floor_db: 5}}\n",
            "'policy' .* 1 and in line 3",
        ),
        ("a:\n  b: 1\n  b: 1\n", "'b' stands twice, in line 2 and in line 3"),
        ('{"a": {"b": 1,\n"b": 2}}', "'b' stands twice, in line 1 and in line 2"),
        ('{"a":\n\t1, "b": 2,\n\t"a": 1}', "'a' stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(str(file))}: the key {said}"):
        read_document(str(file))


def test_what_is_merged_into_a_mapping_may_be_said_anew(tmp_path: Path) -> None:
    file = tmp_path / "merged.yaml"
    file.write_text(
        "all: {base: &base {a: 1, b: 1}, more: &more {<<: *base, b: 2}}\none: {<<: *more, a: 3}\n"
    )
    assert read_document(str(file))["one"] == {"a": 3, "b": 2}
