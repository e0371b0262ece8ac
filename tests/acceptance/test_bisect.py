"""`noisefloor bisect` on a real repository, with real kernels."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.repositories import Repository

MODEL = """
import torch
from torch import nn

OUTLIER = {outlier}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 8)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def build():
    net = Net()
    with torch.no_grad():
        net.second.weight[0, 0] = OUTLIER
    return net
"""
JOB = {
    "version": 1,
    "subjects": [
        {
            "import": "net:build",
            "data": {"calibration": {"shape": [64, 16]}, "evaluation": {"shape": [64, 16]}},
        }
    ],
    "schemes": [{"flow": "eager", "mode": "static", "edge": "float32->true"}],
    "lanes": {"engine": ["qnnpack"]},
}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Six commits; the fourth brings an outlier, the third cannot be imported."""
    made = Repository(tmp_path / "repository")
    for number in range(1, 7):
        outlier = "1/0" if number == 3 else "40.0" if number >= 4 else "0.1"
        (made.folder / "net.py").write_text(MODEL.format(outlier=outlier))
        made.git("add", "net.py")
        made.commit()
    return made


def bisected(
    repository: Repository, *options: str, job: dict[str, Any] = JOB
) -> tuple[int, dict[str, Any], str]:
    ran = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "bisect", "-", "--format", "json", *options],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        cwd=repository.folder,
    )
    return ran.returncode, json.loads(ran.stdout) if ran.stdout else {}, ran.stderr


def test_the_first_bad_commit_is_found_and_one_that_cannot_be_measured_is_passed_over(
    repository: Repository,
) -> None:
    shas = repository.git("rev-list", "--reverse", "HEAD").split()
    named = JOB | {"git": {"sha": shas[-1]}}  # the file's commit is not that of the steps
    options = ("--good", shas[0], "--", "git", "checkout", "--quiet", "{sha}")
    code, found, said = bisected(repository, *options, job=named)
    assert code == 2, said  # the third cannot be told: it may be the first
    assert found["candidates"] == [shas[2], shas[3]]
    steps = {step["name"]: step["bad"] for step in found["steps"]}
    assert (steps[shas[1]], steps[shas[2]], steps[shas[3]]) == (False, None, True)


def test_the_layer_that_costs_the_figure_is_found(repository: Repository) -> None:
    code, found, said = bisected(repository, "--over", "layers", "--below", "30")
    assert code == 0, said
    assert found["first_bad"]["name"] == "second"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--over", "weeks"], "accepted: commits, isa, layers"),
        ([], "--good"),
        (["--over", "layers"], "--below"),
        (["--good", "HEAD", "--", "true"], "no commit lies between"),
        (["--good", "nowhere", "--", "true"], "nowhere"),
    ],
)
def test_what_cannot_be_bisected_is_one_sentence(
    repository: Repository, options: list[str], said: str
) -> None:
    code, _, error = bisected(repository, *options)
    assert code == 2
    assert said in error
    assert "Traceback" not in error
