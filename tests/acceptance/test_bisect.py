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


def test_a_command_that_leaves_another_commit_is_refused(repository: Repository) -> None:
    first = repository.git("rev-list", "--max-parents=0", "HEAD")
    code, _, said = bisected(repository, "--good", first, "--", "true")
    assert code == 2
    assert f"the command left {repository.head[:12]} checked out instead of {first[:12]}" in said


def branched(repository: Repository) -> tuple[str, str]:
    """A branch of the third commit, which has a commit of its own: the branch, and where it began."""
    repository.git("checkout", "--quiet", "-b", "fixed", "HEAD~3")
    (repository.folder / "net.py").write_text(MODEL.format(outlier="0.1"))
    repository.git("add", "net.py")
    repository.commit()
    repository.git("checkout", "--quiet", "-")
    return "fixed", repository.git("rev-parse", "fixed~1")


@pytest.mark.parametrize("merging", [(), ("merge", "--quiet", "--strategy", "ours", "--no-edit", "fixed")])
def test_a_good_commit_of_another_branch_is_refused_for_where_they_part(
    repository: Repository, merging: tuple[str, ...]
) -> None:
    good, parted = branched(repository)
    if merging:
        repository.git(*merging)
    code, _, said = bisected(repository, "--good", good, "--", "false")
    assert code == 2
    assert f"--good fixed is no ancestor of HEAD along first parents; the merge base is {parted}" in said
    assert "measuring" not in said


def test_a_good_commit_of_another_history_is_refused(repository: Repository) -> None:
    branch = repository.git("symbolic-ref", "--short", "HEAD")
    repository.git("checkout", "--quiet", "--orphan", "other")
    repository.commit()
    repository.git("checkout", "--quiet", branch)
    code, _, said = bisected(repository, "--good", "other", "--", "false")
    assert code == 2
    assert "they have no merge base" in said


def test_the_layer_that_costs_the_figure_is_found(repository: Repository) -> None:
    code, found, said = bisected(repository, "--over", "layers", "--below", "30")
    assert code == 0, said
    assert found["first_bad"]["name"] == "second"


def test_over_isa_the_lowest_cap_may_be_one_that_the_engine_has_no_code_for(repository: Repository) -> None:
    code, found, said = bisected(repository, "--over", "isa", job=JOB | {"lanes": {"engine": ["x86"]}})
    if code == 0:
        notes = {step["name"]: step["note"] for step in found["steps"]}
        assert "no code below AVX2" in notes["sse41"]
    else:  # on this machine's kernels nothing is lost
        assert "is lost from native to avx2" in said


def test_a_step_without_a_figure_says_why(repository: Repository) -> None:
    shas = repository.git("rev-list", "--reverse", "HEAD").split()
    repository.git("checkout", "--quiet", shas[2])
    code, _, said = bisected(repository, "--over", "layers", "--below", "30")
    assert code == 2
    assert "ZeroDivisionError" in said


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
