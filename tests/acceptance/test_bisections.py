"""Bisections on a service over PostgreSQL, measured by real workers with real kernels."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_bisect import JOB, MODEL
from tests.acceptance.test_many import LiveWorker, workers
from tests.postgres import PostgresServer
from tests.repositories import Repository
from tests.service import ROOT, LiveService

from noisefloor.store import schema
from noisefloor.store.session import open_engine
from noisefloor_workers.lanes import isa as caps

# Stands in for an older machine: libraries, which ask the C environment, find AVX2 and no more, while nothing
# of Python's environment says that there is a cap.
OLDER = """
import os

os.putenv("ATEN_CPU_CAPABILITY", "avx2")
os.putenv("ONEDNN_MAX_CPU_ISA", "AVX2")
"""
OUTLIERS = ("0.1", "1/0", "0.1", "0.1", "40.0", "40.0")  # the second commit cannot be imported


@dataclass(frozen=True, kw_only=True)
class Place:
    """A service, a repository, and how a worker is started that checks its commits out."""

    service: LiveService
    database: str
    repository: Repository
    clone: Path

    def checking_out(self, **environment: str) -> LiveWorker:
        command = f"git -C {self.clone} checkout -q {{sha}}"
        path = os.pathsep.join([str(self.clone), str(ROOT / "tests")])
        allow = "net,subjects_under_test"
        return LiveWorker(
            self.database,
            *("--checkout", command),
            PYTHONPATH=path,
            NOISEFLOOR_IMPORT_ALLOW=allow,
            **environment,
        )

    def bisect(self, job: dict[str, Any], *options: str) -> tuple[int, dict[str, Any], str]:
        """What `noisefloor bisect --on-service` answers, asked in the repository."""
        ran = subprocess.run(
            self._command("--format", "json", *options),
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
            cwd=self.repository.folder,
            timeout=300,
        )
        return ran.returncode, json.loads(ran.stdout) if ran.stdout else {}, ran.stderr

    def _command(self, *options: str) -> list[str]:
        verb = [sys.executable, "-m", "noisefloor.cli", "bisect", "-", "--on-service"]
        return [*verb, "--url", self.service.url, *options]


@pytest.fixture(scope="module")
def place(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    database = postgres_server.create(f"bisections{os.urandom(4).hex()}")
    engine = open_engine(database)
    schema.upgrade(engine)
    engine.dispose()
    repository = Repository(tmp_path_factory.mktemp("repository"))
    for outlier in OUTLIERS:
        (repository.folder / "net.py").write_text(MODEL.format(outlier=outlier))
        repository.commit("net.py")
    clone = repository.clone(tmp_path_factory.mktemp("clone") / "net")
    with LiveService(database, verb="serve", NOISEFLOOR_IMPORT_ALLOW="net,subjects_under_test") as service:
        yield Place(service=service, database=database, repository=repository, clone=clone)


@pytest.fixture(scope="module")
def worker(place: Place) -> Iterator[LiveWorker]:
    with place.checking_out() as started:
        until_there(place.service, started)
        yield started


def until_there(service: LiveService, *started: LiveWorker) -> None:
    while not {one.name for one in started} <= workers(service).keys():
        time.sleep(0.1)


def test_a_killed_settling_step_is_measured_again_and_the_layer_is_found(place: Place) -> None:
    asked = {"over": "layers", "below_db": 30, "job": JOB}
    posted = place.service.http.post("/v1/projects/default/bisections", json=asked).json()
    with place.checking_out(NOISEFLOOR_FAILPOINTS="record.before_commit=kill") as doomed:
        doomed.process.wait(120)
    at = f"/v1/projects/default/bisections/{posted['id']}"
    seen = place.service.http.get(at).json()
    assert (seen["status"], len(seen["steps"])) == ("running", 1)
    with place.checking_out() as started:
        while (seen := place.service.http.get(at, params={"wait": 30}).json())["status"] == "running":
            assert started.process.poll() is None
    assert seen["message"] == "first bad: second"
    assert [step["name"] for step in seen["steps"] if step["bad"]] == ["second"]


def test_the_first_commit_with_the_loss_is_found_by_a_worker_that_checks_out(
    place: Place, worker: LiveWorker
) -> None:
    del worker
    shas = place.repository.git("rev-list", "--reverse", "HEAD").split()
    code, found, said = place.bisect(JOB, "--over", "commits", "--good", shas[0])
    assert code == 0, said
    assert found["first_bad"]["name"] == shas[4]
    steps = {step["name"]: step["bad"] for step in found["steps"]}
    assert (steps[shas[0]], steps[shas[3]], steps[shas[4]], steps[shas[5]]) == (False, False, True, True)
    assert "measuring" in said


def test_a_commit_that_no_worker_can_check_out_is_passed_over_and_named(
    place: Place, worker: LiveWorker
) -> None:
    del worker
    shas = place.repository.git("rev-list", "--reverse", "HEAD").split()
    asked = {"over": "commits", "job": JOB, "commits": [shas[3], "f" * 40, shas[4]]}
    posted = place.service.http.post("/v1/projects/default/bisections", json=asked).json()
    at = f"/v1/projects/default/bisections/{posted['id']}"
    while (seen := place.service.http.get(at, params={"wait": 30}).json())["status"] == "running":
        pass
    assert seen["message"] == f"the first bad one is among: {'f' * 40}, {shas[4]}"
    assert "cannot be checked out" in seen["steps"][1]["note"]


@pytest.mark.skipif("avx512_vnni" not in caps.cpu_flags(), reason="saturation needs a VNNI machine to differ")
def test_the_instruction_set_that_saturates_is_what_the_bad_environment_alone_has(
    place: Place, worker: LiveWorker, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(OLDER)
    path = os.pathsep.join([str(tmp_path), str(ROOT / "tests")])
    positive = {
        "import": "subjects_under_test.stacks:positive_stack",
        "data": {"calibration": {"shape": [64, 512]}, "evaluation": {"shape": [64, 512]}},
    }
    scheme = {**JOB["schemes"][0], "reduce_range": False}
    job = {**JOB, "subjects": [positive], "schemes": [scheme], "lanes": {"engine": ["onednn"]}}
    with LiveWorker(place.database, PYTHONPATH=path) as older:
        until_there(place.service, older, worker)
        code, found, said = place.bisect(job, "--over", "environments")
    assert code == 0, said
    assert found["facts"] == ["isa = AVX2"]
    bad = {step["title"]: step["bad"] for step in found["steps"]}
    assert bad["isa AVX2"] is True
    assert sorted(bad.values()) == [False, True]
