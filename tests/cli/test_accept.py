"""`noisefloor accept` against a real service, on both databases."""

import json
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import job, result
from typer.testing import CliRunner

from noisefloor.cli.main import app
from noisefloor.errors import InvalidRequestError, NoisefloorError
from noisefloor.store.session import writing

PROJECT = "/v1/projects/demo"
TODAY = str(datetime.now(UTC).date())


@pytest.fixture
def lost(api: httpx.Client, engine: Engine) -> dict[str, str]:
    """A job whose figure is below its floor."""
    posted: dict[str, str] = api.post(
        f"{PROJECT}/jobs", json=job(name="nightly", git={"sha": "a" * 40})
    ).json()
    with writing(engine, "test") as session:
        finish(session, claimed(session), lambda cell: result(cell, 29.0))
    return posted


def accept(api: httpx.Client, *arguments: str) -> str:
    """What the command prints; raises what it refuses."""
    command = ["accept", *arguments, "--url", str(api.base_url), "--project", "demo"]
    answer = CliRunner().invoke(app, command, catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_a_commits_loss_is_accepted_and_its_new_verdict_is_told(
    api: httpx.Client, lost: dict[str, str]
) -> None:
    said = accept(api, "a" * 40, "--reason", "a smaller model", "--by", "ann", "--until", TODAY)
    assert said.splitlines()[0] == f"accepted {lost['id']} until {TODAY}: 1 job judged anew"
    assert f"{lost['id']}  acknowledged  1 acknowledged;" in said


def test_only_what_matches_is_accepted(api: httpx.Client, lost: dict[str, str]) -> None:
    with pytest.raises(NoisefloorError, match="nothing to accept"):
        accept(api, lost["id"], "--reason", "why", "--match", "engine=onednn")
    made = json.loads(accept(api, lost["id"], "--reason", "why", "--match", "engine=x86", "--format", "json"))
    assert (made["match"]["engine"], made["acknowledged"]) == (["x86"], [lost["id"]])


def test_a_result_that_was_accepted_can_be_pinned(api: httpx.Client, lost: dict[str, str]) -> None:
    accept(api, lost["id"], "--reason", "why")
    assert accept(api, lost["id"], "--pin", "--reason", "the release") == f"pinned {lost['id']}\n"


@pytest.mark.usefixtures("lost")
def test_a_sha_that_is_cut_short_is_told_so(api: httpx.Client) -> None:
    with pytest.raises(NoisefloorError, match=r"commit aaaaaaa: give the whole sha$"):
        accept(api, "a" * 7, "--reason", "why")
    with pytest.raises(NoisefloorError, match=r"no settled job of commit b{40}$"):
        accept(api, "b" * 40, "--reason", "why")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense", "--reason", "x"], "'nonsense' is no job id, no commit sha, and no name"),
        (["a" * 40, "--reason", ""], "reason: String should have at least 1 character"),
        (["a" * 40, "--reason", "x", "--match", "engine"], "give axis=pattern"),
        (["a" * 40, "--reason", "x", "--match", "engines=x86"], "did you mean 'engine'"),
        (["a" * 40, "--reason", "x", "--until", "soon"], "give a day as YYYY-MM-DD"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_is_sent(arguments: list[str], said: str) -> None:
    command = ["accept", *arguments, "--url", "http://127.0.0.1:9"]
    with pytest.raises(InvalidRequestError, match=said):
        CliRunner().invoke(app, command, catch_exceptions=False)
