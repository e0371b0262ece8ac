"""A loss put down to the environment or the code, by corners that were measured and handed to a service."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.samples import ENVIRONMENT, result

from noisefloor.client import Client
from noisefloor.contract.attribution import Attribution, Cause
from noisefloor.contract.lane import Isa
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.lanes import isa as caps
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import Runner

TESTS = Path(__file__).parents[1]
OLD, NEW = "a" * 40, "b" * 40
MINUTES = {OLD: 1, NEW: 2}
SUBJECT = {
    "import": "subjects_under_test.stacks:positive_stack",
    "data": {"calibration": {"shape": [64, 512]}, "evaluation": {"shape": [64, 512]}},
}
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true", "reduce_range": False}


def measured(runner: Runner, isa: Isa) -> CellResult:
    """The positive stack on onednn, by real kernels, in a process under the cap."""
    cell = {"cell": "0", "scheme": SCHEME, "lane": {"engine": "onednn", "isa": isa}}
    allow = ["subjects_under_test"]
    task = ShardTask.model_validate({"subject": SUBJECT, "cells": [cell], "import_allow": allow, "isa": isa})
    (found,) = runner.run(task, lambda _progress: True)
    assert found.environment is not None, found.reason
    assert found.environment.isa_cap == isa
    return found


@pytest.fixture(scope="module")
def runners() -> Iterator[dict[Isa, Runner]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.syspath_prepend(str(TESTS))
        with Runner("native") as native, Runner("avx2") as capped:
            yield {"native": native, "avx2": capped}


class Branch:
    """A project whose main has two commits, and a policy that lets half a decibel go."""

    def __init__(self, api: httpx.Client) -> None:
        self.api = api
        self.client = Client(str(api.base_url), project="demo")

    def push(self, sha: str, figure: CellResult) -> dict[str, Any]:
        """The job of a commit on the lane `onednn`, native, as the machine that measured it hands it over."""
        job = {
            "version": 1,
            "subjects": [SUBJECT],
            "schemes": [SCHEME],
            "lanes": {"engine": ["onednn"]},
            "git": {"branch": "main", "sha": sha, "committed_at": f"2026-01-01T00:{MINUTES[sha]:02}:00Z"},
            "policy": {"rules": {"max_drop_db": 0.5}},
        }
        document = {"job": job, "results": [figure.model_dump(mode="json")]}
        answer = self.api.post("/v1/projects/demo/results", json=document)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def split(self, job: dict[str, Any]) -> Attribution:
        """The attribution of the job's one loss."""
        (view,) = self.client.attribution(job["id"])
        return view.attribution

    def page(self, job: dict[str, Any]) -> str:
        """The job's page, which checks link to."""
        return self.api.get(f"/projects/demo/jobs/{job['id']}").raise_for_status().text

    def gate(self, job: dict[str, Any], format: str) -> str:  # noqa: A002 - the option's name
        """What `noisefloor gate` says of the job."""
        at = ["--url", str(self.api.base_url), "--project", "demo", "--format", format]
        command = [sys.executable, "-m", "noisefloor.cli", "gate", job["id"], *at]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        assert told.returncode == 1, told.stderr
        return told.stdout


@pytest.fixture
def branch(api: httpx.Client) -> Iterator[Branch]:
    made = Branch(api)
    with made.client:
        yield made


@pytest.mark.skipif("avx512_vnni" not in caps.cpu_flags(), reason="saturation needs a VNNI machine to differ")
def test_saturation_on_an_older_machine_is_the_environments_with_0_db_of_code(
    branch: Branch, runners: dict[Isa, Runner]
) -> None:
    """The capped process stands in for a machine on which AVX2 is all there is.

    Such a machine sends the lane `native`, and the figures and the environment of its own instructions; so
    the capped results are handed over under that lane. Each corner is measured by itself.
    """
    branch.push(OLD, measured(runners["native"], "native"))
    lost = branch.push(NEW, measured(runners["avx2"], "avx2"))
    assert lost["verdict"] == "regressed"
    branch.push(OLD, measured(runners["avx2"], "avx2"))
    three = branch.split(lost)
    assert (three.cause, three.code_db, three.interaction_db) == (Cause.ENVIRONMENT, 0.0, None)
    branch.push(NEW, measured(runners["native"], "native"))

    found = branch.split(lost)
    corners = found.square
    assert [corners.old_in_new.how, corners.new_in_old.how] == ["measured", "measured"]
    assert found.total_db is not None
    assert found.total_db > 20
    assert (found.cause, found.code_db, found.interaction_db) == (Cause.ENVIRONMENT, 0.0, 0.0)
    assert found.environment_db == found.total_db
    said = f"the environment: code 0.000 dB, environment {found.total_db:.3f} dB"
    assert f"Put down to {said}" in branch.page(lost)


def test_code_of_the_repository_is_not_known_until_the_old_commit_is_measured_in_the_new_environment(
    branch: Branch,
) -> None:
    here, there = ENVIRONMENT, ENVIRONMENT.replace(torch="2.14.0")
    branch.push(OLD, result("0", 40, environment=here))
    lost = branch.push(NEW, result("0", 36, environment=there))
    unknown = "not known: nobody has measured the baseline's commit in this environment"
    assert branch.split(lost).cause is Cause.UNKNOWN
    assert unknown in branch.page(lost).replace("&#39;", "'")
    assert f"cause: {unknown}" in branch.gate(lost, "human")

    branch.push(OLD, result("0", 38.5, environment=there))
    found = branch.split(lost)
    assert (found.cause, found.environment_db, found.code_db) == (Cause.BOTH, 1.5, 2.5)
    said = "code and environment: code 2.500 dB, environment 1.500 dB"
    assert f"Put down to {said}" in branch.page(lost)
    assert f"| {said}" in branch.gate(lost, "markdown")
