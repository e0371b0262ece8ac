"""What projects decide for themselves, over HTTP and on the command line, on both databases."""

import time

import httpx
import pytest
from sqlalchemy import Engine
from tests.conftest import serving
from tests.measuring import claimed, finish
from tests.samples import job
from typer.testing import CliRunner

from noisefloor.cli.main import app
from noisefloor.settings import Settings
from noisefloor.store.session import writing

PROJECT = "/v1/projects/demo"
FOREVER = {
    "layers_of_pull_requests_days": None,
    "layers_days": None,
    "jobs_of_pull_requests_days": None,
    "jobs_days": None,
}


def test_retention_is_put_and_got(api: httpx.Client) -> None:
    assert api.get(f"{PROJECT}/retention").status_code == 404
    put = api.put(f"{PROJECT}/retention", json={"layers_of_pull_requests_days": 14})
    assert put.json() == {**FOREVER, "layers_of_pull_requests_days": 14}
    assert api.get(f"{PROJECT}/retention").json() == put.json()
    assert api.put(f"{PROJECT}/retention", json={}).json() == FOREVER


def test_settings_are_put_and_got(api: httpx.Client) -> None:
    api.put(f"{PROJECT}/settings", json={"default_branch": "trunk"})
    assert api.get(f"{PROJECT}/settings").json() == {"default_branch": "trunk", "public_badge": False}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("retention", {"layers_days": 0}, "layers_days"),
        ("retention", {"layers_days": 1e9}, "layers_days"),
        ("retention", {"layer_days": 1}, "layer_days"),
        ("settings", {"default_branch": ""}, "default_branch"),
        ("settings", {"default_branch": "a\0"}, "default_branch"),
        ("settings", {"public_badge": "perhaps"}, "public_badge"),
    ],
)
def test_what_is_no_setting_is_named(
    api: httpx.Client, path: str, body: dict[str, object], field: str
) -> None:
    refused = api.put(f"{PROJECT}/{path}", json=body)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == [field]


@pytest.fixture
def aged(api: httpx.Client, engine: Engine) -> httpx.Client:
    """Two old jobs of a pull request; the newest result stays whatever is set."""
    for _ in range(2):
        api.post(f"{PROJECT}/jobs", json=job(git={"branch": "topic"}))
        with writing(engine, "test") as session:
            finish(session, claimed(session))
    api.put(f"{PROJECT}/retention", json={"jobs_of_pull_requests_days": 1})
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET finished_at = '2026-01-01 00:00:00+00:00'")
    return api


def test_a_dry_run_says_what_would_go_and_deletes_nothing(aged: httpx.Client, database: str) -> None:
    for options, jobs_left in ((["--dry-run"], 2), ([], 1)):
        ran = CliRunner().invoke(app, ["db", "prune", "--database", database, *options])
        assert ran.exit_code == 0, ran.exception
        assert ran.output.startswith("demo: layers of 0 cells, 1 jobs\n")
        assert len(aged.get(f"{PROJECT}/jobs").json()["items"]) == jobs_left


def test_a_service_deletes_by_itself(aged: httpx.Client, engine: Engine, settings: Settings) -> None:
    assert len(aged.get(f"{PROJECT}/jobs").json()["items"]) == 2
    with serving(settings, engine) as started:
        deadline = time.monotonic() + 60
        while (left := len(started.get(f"{PROJECT}/jobs").json()["items"])) == 2:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    assert left == 1
