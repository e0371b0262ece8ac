"""`noisefloor attribute` on a real repository, with real kernels."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.test_bisect import JOB, MODEL
from tests.repositories import Repository
from tests.samples import ENVIRONMENT, result
from tests.service import LiveService

from noisefloor.contract.measurement import CellResult
from noisefloor.contract.report import Report
from noisefloor.contract.worker import Capabilities
from noisefloor_workers.cli.attribute import _lacking

CHECKOUT = ("--", "git", "checkout", "--quiet", "{sha}")
POLICY = {"rules": {"max_drop_db": 0.5}, "baseline": {"source": "nearest_ancestor"}}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two commits; the second brings an outlier."""
    made = Repository(tmp_path / "repository")
    for outlier in ("0.1", "40.0"):
        (made.folder / "net.py").write_text(MODEL.format(outlier=outlier))
        made.git("add", "net.py")
        made.commit()
    return made


class Checkout:
    """The repository's own command line, and a project of the service."""

    def __init__(self, repository: Repository, service: LiveService, project: str) -> None:
        self.repository, self.service, self.project = repository, service, project
        self.shas = repository.git("rev-list", "--reverse", "HEAD").split()

    def __call__(
        self, *arguments: str, given: dict[str, Any] | None = None
    ) -> subprocess.CompletedProcess[str]:
        verb, *rest = arguments
        at = ["--url", self.service.url, "--project", self.project]
        return subprocess.run(
            [sys.executable, "-m", "noisefloor.cli", verb, *at, *rest],
            input=json.dumps(given) if given else None,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.repository.folder,
        )

    def push(self, commit: int, answer: CellResult) -> str:
        """What another machine measured of a commit: the job's id."""
        ancestors = list(reversed(self.shas[:commit]))
        git = {"branch": "main", "sha": self.shas[commit], "ancestors": ancestors}
        document = {"job": JOB | {"policy": POLICY, "git": git}, "results": [answer.model_dump(mode="json")]}
        pushed = self.service.http.post(f"/v1/projects/{self.project}/results", json=document)
        assert pushed.status_code == 201, pushed.text
        return str(pushed.json()["id"])


def test_the_baselines_commit_is_measured_here_and_splits_the_loss(
    repository: Repository, live_service: LiveService
) -> None:
    checkout = Checkout(repository, live_service, "attribute")
    checkout.push(0, result("0", 90.0, environment=ENVIRONMENT))
    ran = checkout("run", "-", "--push", "--format", "json", given=JOB | {"policy": POLICY})
    url = Report.model_validate_json(ran.stdout).url
    assert url is not None
    lost = url.rpartition("/")[2]

    stayed = checkout("attribute", lost, "--", "git", "status")
    assert stayed.returncode == 2
    assert f"instead of {checkout.shas[0][:12]}" in stayed.stderr

    told = checkout("attribute", lost, *CHECKOUT)
    assert told.returncode == 0, told.stderr
    assert "float32->true output: code and environment: code " in told.stdout
    (view,) = live_service.http.get(f"/v1/projects/attribute/jobs/{lost}/attribution").json()
    assert view["attribution"]["square"]["old_in_new"]["sha"] == checkout.shas[0]
    assert view["attribution"]["code_db"] > 1
    assert repository.head == checkout.shas[0]

    jobs = live_service.http.get("/v1/projects/attribute/jobs").json()["items"]
    assert [job["explains"] for job in jobs] == [lost, None, None]
    again = checkout("attribute", jobs[0]["id"], *CHECKOUT)
    assert again.returncode == 2
    assert f"job {jobs[0]['id']} only explains job {lost}: attribute that one" in again.stderr


def test_another_machine_says_what_differs_and_checks_nothing_out(
    repository: Repository, live_service: LiveService
) -> None:
    checkout = Checkout(repository, live_service, "elsewhere")
    checkout.push(0, result("0", 90.0, environment=ENVIRONMENT))
    lost = checkout.push(1, result("0", 36.0, environment=ENVIRONMENT.replace(torch="1.0.0")))
    told = checkout("attribute", lost, *CHECKOUT)
    assert told.returncode == 2
    assert "not measured, since this is not the job's environment " in told.stderr
    assert ": torch 1.0.0 → " in told.stderr
    assert "measuring" not in told.stderr
    assert repository.head == checkout.shas[1]
    assert "not known: nobody has measured the baseline's commit in this environment" in told.stdout


HERE = Capabilities(
    engines=("x86",),
    isas=("native", "avx2"),
    threads=2,
    memory_gib=8,
    machine="x86_64",
    torch="2.13.0",
    environments=(ENVIRONMENT, ENVIRONMENT.replace(isa_cap="avx2")),
)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, None),
        ({"threads": 64}, None),  # a command, unlike a worker, may take more than the machine has
        ({"torch": "2.12.0", "isa_cap": "avx2"}, "torch 2.12.0 → 2.13.0"),
        ({"isa_cap": "sse41"}, "it has no cap sse41"),
        ({"gpu": "H200", "torch": "2.12.0"}, None),  # only measuring tells
    ],
)
def test_what_a_machine_lacks_is_known_beforehand(wanted: dict[str, Any], said: str | None) -> None:
    assert _lacking(HERE, ENVIRONMENT.replace(**wanted)) == said
