"""A commit that was never measured does not pass: real repositories, kernels, services and command lines."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_bisect import JOB, MODEL
from tests.repositories import Repository, run
from tests.service import LiveService

SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true", "floor_db": 30}
FLOORED = JOB | {"schemes": [SCHEME]}
GOOD, BAD = "0.1", "40.0"


class Client:
    """Somebody's checkout, whose second commit loses what the floor asks for."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository(folder)
        self.good, self.bad = self.commit(GOOD), self.commit(BAD)

    def commit(self, outlier: str) -> str:
        (self.repository.folder / "net.py").write_text(MODEL.format(outlier=outlier))
        return self.repository.commit("net.py")

    def __call__(
        self, service: LiveService, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A verb of the command line here, on the job of what is checked out."""
        verb, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "noisefloor.cli", verb, "-", "--url", service.url, *rest],
            input=json.dumps(FLOORED),
            cwd=self.repository.folder,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "client")


@pytest.fixture
def stale(client: Client, tmp_path: Path) -> Path:
    """The worker's clone, which has both commits and the first one checked out."""
    clone = client.repository.clone(tmp_path / "worker")
    run(clone, "checkout", "--quiet", client.good)
    return clone


def up(folder: Path, *options: str) -> LiveService:
    """`noisefloor up` whose models are those of a folder."""
    database = f"sqlite:///{folder.parent}/noisefloor.db"
    allowed = {"PYTHONPATH": str(folder), "NOISEFLOOR_IMPORT_ALLOW": "net"}
    return LiveService(database, *options, **allowed, PYTHONDONTWRITEBYTECODE="1")


@pytest.fixture
def service(stale: Path) -> Iterator[LiveService]:
    with up(stale) as started:
        yield started


def cell_of(service: LiveService) -> dict[str, Any]:
    """The one cell of the latest job."""
    job = service.http.get("/v1/projects/default/jobs").json()["items"][0]
    (cell,) = service.cells(job["id"])
    return {**cell, "job": job}


def test_a_commit_that_the_worker_has_not_checked_out_does_not_pass(
    client: Client, service: LiveService
) -> None:
    told = client(service, "submit", "--wait")
    assert told.returncode == 2, told.stdout
    cell = cell_of(service)
    other = f"measured from files of {client.good[:12]}, not of the job's {client.bad[:12]}: check that"
    assert cell["job"]["verdict"] == "error"
    assert other in cell["job"]["verdict_message"]
    assert (cell["status"], cell["measurements"]) == ("failed", [])
    assert cell["files"] == {"commit": client.good, "dirty": False, "reason": None}
    page = service.http.get(f"/projects/default/jobs/{cell['job']['id']}/cells/{cell['id']}").text
    assert f'<code title="{client.good}">{client.good[:9]}</code>' in page


def test_a_worker_that_never_fetched_the_commit_does_not_pass_it_either(
    client: Client, service: LiveService
) -> None:
    client.commit(BAD)
    assert client(service, "submit", "--wait").returncode == 2
    assert cell_of(service)["job"]["verdict"] == "error"


def test_what_is_checked_out_is_measured_and_what_was_changed_there_is_said(
    client: Client, service: LiveService, stale: Path
) -> None:
    run(stale, "checkout", "--quiet", client.bad)
    assert client(service, "submit", "--wait").returncode == 1
    client.commit(GOOD)
    run(stale, "pull", "--quiet", "origin", "main")
    assert client(service, "submit", "--wait").returncode == 0
    assert cell_of(service)["job"]["verdict"] == "pass"
    with (stale / "net.py").open("a") as model:
        model.write("# changed\n")
    assert client(service, "submit", "--wait").returncode == 0
    job = cell_of(service)["job"]
    assert job["verdict"] == "warn"
    assert f"the files differed from commit {client.repository.head[:12]}" in job["verdict_message"]


def test_results_that_are_pushed_from_the_checkout_are_its_own(client: Client, service: LiveService) -> None:
    assert client(service, "run", "--push").returncode == 1
    assert cell_of(service)["files"] == {"commit": client.bad, "dirty": False, "reason": None}
    client.repository.git("checkout", "--quiet", client.good)
    assert client(service, "run", "--push").returncode == 0
    with (client.repository.folder / "net.py").open("a") as model:
        model.write("# changed\n")
    assert client(service, "run", "--push").returncode == 0
    cell = cell_of(service)
    assert cell["files"]["dirty"]
    assert cell["job"]["git"]["dirty"]
    assert cell["job"]["verdict"] == "pass"  # the client has said that it is not the commit alone


def test_a_pull_requests_merge_is_measured_in_place_of_its_head(
    client: Client, service: LiveService, tmp_path: Path
) -> None:
    repository = client.repository
    repository.git("switch", "--quiet", "--create", "topic")
    topic = client.commit(GOOD)
    repository.git("switch", "--quiet", "--detach", "main")
    repository.git("merge", "--quiet", "--no-ff", "--message", "merge", "topic")
    event = tmp_path / "event.json"
    repo = {"full_name": "org/repo"}
    head = {"sha": topic, "ref": "topic", "label": "org:topic", "repo": repo}
    event.write_text(json.dumps({"pull_request": {"head": head, "base": {"repo": repo}}}))
    host = {"GITHUB_EVENT_PATH": str(event), "GITHUB_SHA": repository.head, "GITHUB_REF": "refs/pull/7/merge"}
    assert client(service, "run", "--push", **host).returncode == 0
    cell = cell_of(service)
    assert (cell["job"]["git"]["sha"], cell["files"]["commit"]) == (topic, repository.head)
    assert cell["job"]["verdict"] == "pass"


def test_one_process_that_checks_commits_out_measures_what_the_job_names(client: Client, stale: Path) -> None:
    with up(stale, "--checkout", f"git -C {stale} checkout -q {{sha}}") as service:
        assert client(service, "submit", "--wait").returncode == 1
        assert cell_of(service)["files"]["commit"] == client.bad
        client.repository.git("checkout", "--quiet", client.good)
        assert client(service, "submit", "--wait").returncode == 0
        assert cell_of(service)["job"]["verdict"] == "pass"


def test_files_that_git_knows_nothing_of_are_of_the_commit_that_the_worker_was_told(
    client: Client, tmp_path: Path
) -> None:
    installed = tmp_path / "installed" / "site"
    installed.mkdir(parents=True)
    (installed / "net.py").write_text(MODEL.format(outlier=GOOD))
    client.repository.git("checkout", "--quiet", client.good)
    with up(installed) as service:
        assert client(service, "submit", "--wait").returncode == 0
        job = cell_of(service)["job"]
        assert job["verdict"] == "warn"
        assert f"the files were those of commit {client.good[:12]}: net.py: " in job["verdict_message"]
    with up(installed, "--commit", client.good) as service:
        assert client(service, "submit", "--wait").returncode == 0
        assert cell_of(service)["job"]["verdict"] == "pass"
        client.repository.git("checkout", "--quiet", client.bad)
        assert client(service, "submit", "--wait").returncode == 2
        assert cell_of(service)["job"]["verdict"] == "error"
