"""Losses attributed by workers that check commits out, without anyone running a command: real kernels."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_faults import misbehaving, wait_until_running
from tests.acceptance.test_many import LiveWorker
from tests.postgres import PostgresServer
from tests.repositories import Repository
from tests.samples import ENVIRONMENT, result
from tests.service import ROOT, LiveService

from noisefloor.cli.offers import command_of, offered
from noisefloor.errors import InvalidRequestError
from noisefloor_workers.lanes import isa as caps

# Both commits have as many bytes, and each checkout sets the same time: stale bytecode would pass for fresh.
MODEL = """
import torch
from torch import nn

OUTLIER = {outlier}


def same():
    stack = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 10))
    with torch.no_grad():
        for layer in stack:
            layer.weight.uniform_(0.0, 1.0)
            layer.bias.zero_()
    return stack


def changed():
    stack = same()
    with torch.no_grad():
        stack[1].weight[0, 0] = OUTLIER
    return stack
"""
DATA = {"calibration": {"shape": [64, 512]}, "evaluation": {"shape": [64, 512]}}
SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true", "reduce_range": False}
# A machine on which AVX2 is all there is. What libraries read is set, and what Python shows is not: a cap
# that a worker could be asked for is told apart from a processor that has no more.
OLDER = """
import os

for name, value in {variables}.items():
    if name not in os.environ:
        os.putenv(name, value)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    for outlier in ("0.5", "99."):
        (made.folder / "net.py").write_text(MODEL.format(outlier=outlier))
        made.git("add", "net.py")
        made.commit()
    return made


@pytest.fixture
def database(postgres_server: PostgresServer, postgres_template: str) -> str:
    return postgres_server.create(f"corners{os.urandom(4).hex()}", template=postgres_template)


@pytest.fixture
def service(database: str) -> Iterator[LiveService]:
    with LiveService(database, verb="serve", NOISEFLOOR_IMPORT_ALLOW="net,subjects_under_test") as serving:
        yield serving


class Machines:
    """Workers that each have a clone of the repository, and check out of it what is wanted."""

    def __init__(self, repository: Repository, database: str, folder: Path) -> None:
        self.repository, self.database, self.folder = repository, database, folder
        self.old, self.new = repository.git("rev-list", "--reverse", "HEAD").split()

    def worker(self, name: str, *before: Path) -> LiveWorker:
        clone = self.repository.clone(self.folder / name)
        checkout = f"git -C {clone} checkout -q {{sha}} && touch -d @1700000000 {clone}/net.py"
        return LiveWorker(
            self.database,
            *("--isa", "native", "--checkout", f"sh -c '{checkout}'"),
            PYTHONPATH=":".join(map(str, [*before, clone, ROOT / "tests"])),
            NOISEFLOOR_IMPORT_ALLOW="net,subjects_under_test",
            PYTHONDONTWRITEBYTECODE="",  # whatever holds for the tests: the worker sees to it itself
        )

    def older(self) -> LiveWorker:
        """A worker on a machine without AVX512."""
        stand_in = self.folder / "older"
        stand_in.mkdir()
        (stand_in / "sitecustomize.py").write_text(OLDER.format(variables=caps.cap_variables("avx2")))
        return self.worker("avx2", stand_in)

    def job(self, *factories: str, engines: tuple[str, ...], commit: str) -> dict[str, Any]:
        git = {"branch": "main", "sha": commit, "ancestors": [self.old] if commit == self.new else []}
        return {
            "version": 1,
            "name": "stacks",
            "subjects": [{"import": f"net:{factory}", "data": DATA} for factory in factories],
            "schemes": [SCHEME],
            "lanes": {"engine": engines},
            "policy": {"rules": {"max_drop_db": 0.5}, "baseline": {"source": "nearest_ancestor"}},
            "git": git,
        }


@pytest.fixture
def machines(repository: Repository, database: str, tmp_path: Path) -> Machines:
    return Machines(repository, database, tmp_path)


def attributions(service: LiveService, job_id: str) -> dict[str, dict[str, Any]]:
    """By factory and engine."""
    names = {
        cell["id"]: f"{cell['subject']['import'].removeprefix('net:')} {cell['lane']['engine']}"
        for cell in service.cells(job_id)
    }
    views = service.http.get(f"/v1/projects/default/jobs/{job_id}/attribution").json()
    return {names[one["cell"]]: one["attribution"] for one in views}


def until_no_corner_waits(service: LiveService, job_id: str) -> dict[str, dict[str, Any]]:
    while True:
        found = attributions(service, job_id)
        if all(corner["how"] != "pending" for one in found.values() for corner in one["square"].values()):
            return found
        time.sleep(0.2)


@pytest.mark.skipif("avx512_vnni" not in caps.cpu_flags(), reason="saturation needs a VNNI machine to differ")
def test_environment_code_and_both_are_told_apart_by_what_two_workers_measure(
    service: LiveService, machines: Machines, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engines = ("qnnpack", "onednn")
    with machines.worker("native"):
        first = service.submit(machines.job("same", "changed", engines=engines, commit=machines.old))
        assert service.wait(first["id"])["status"] == "done"
        lingering = service.submit(misbehaving("lingering", path=str(gate)))["id"]
        wait_until_running(service, lingering, doing="onednn")
        with machines.older():
            lost = service.submit(machines.job("same", "changed", engines=engines, commit=machines.new))
            assert service.wait(lost["id"])["verdict"] == "regressed"
            waiting = attributions(service, lost["id"])["same onednn"]
            assert "being measured: job" in waiting["message"]
            gate.unlink()
            found = until_no_corner_waits(service, lost["id"])
    saturated, code, mixed = (found[name] for name in ("same onednn", "changed qnnpack", "changed onednn"))
    assert "same qnnpack" not in found
    for one in (saturated, code, mixed):
        assert [one["square"][corner]["how"] for corner in ("old_in_new", "new_in_old")] == ["measured"] * 2
    assert (saturated["cause"], saturated["code_db"], saturated["interaction_db"]) == (
        "environment",
        0.0,
        0.0,
    )
    assert saturated["environment_db"] == saturated["total_db"] > 20
    assert (code["cause"], code["environment_db"]) == ("code", pytest.approx(0.0, abs=0.01))
    assert code["code_db"] > 1
    assert mixed["cause"] == "both"
    assert mixed["environment_db"] > 1
    assert mixed["code_db"] > 1
    page = service.http.get(f"/projects/default/jobs/{lost['id']}").text
    assert f"Put down to the environment: code 0.000 dB, environment {saturated['total_db']:.3f} dB" in page


def test_one_side_is_measured_and_what_the_other_lacks_is_told(
    service: LiveService, machines: Machines
) -> None:
    engines = ("qnnpack",)
    job = machines.job("changed", engines=engines, commit=machines.old)
    elsewhere = result("0", 90.0, environment=ENVIRONMENT.replace(torch="1.0.0")).model_dump(mode="json")
    pushed = service.http.post("/v1/projects/default/results", json={"job": job, "results": [elsewhere]})
    assert pushed.status_code == 201, pushed.text
    with machines.worker("native"):
        lost = service.submit(machines.job("changed", engines=engines, commit=machines.new))
        assert service.wait(lost["id"])["verdict"] == "regressed"
        found = until_no_corner_waits(service, lost["id"])["changed qnnpack"]
        page = service.http.get(f"/projects/default/jobs/{lost['id']}").text
        unknown = service.submit(machines.job("changed", engines=engines, commit="f" * 40))
        assert service.wait(unknown["id"])["verdict"] == "error"
    assert found["square"]["old_in_new"]["how"] == "measured"
    assert found["cause"] == "both"
    said = found["square"]["new_in_old"]["note"]
    assert said.startswith("no worker has environment ")
    assert "(torch 1.0.0, AVX2); the nearest differs in torch 1.0.0 → " in said
    assert "the nearest differs in torch 1.0.0 → " in page
    (cell,) = service.cells(unknown["id"])
    assert cell["status"] == "failed"
    assert cell["reason"].startswith(f"commit {'f' * 40} cannot be checked out: the command ended with ")


@pytest.mark.parametrize(
    ("checkout", "slots", "said"),
    [
        ("", 1, "give a command"),
        ("git 'checkout", 1, "No closing quotation"),
        ("git checkout {sha}", 2, "slots = 2: with --checkout accepted: 1"),
    ],
)
def test_a_checkout_that_cannot_be_is_refused_in_one_sentence(checkout: str, slots: int, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        command_of(checkout, slots)


def test_a_commit_that_is_no_sha_is_refused_in_one_sentence() -> None:
    with pytest.raises(InvalidRequestError, match="commit = 'main': give a sha"):
        offered("main", [])
