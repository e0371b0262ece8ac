"""What speaks against the files that a cell was measured from, by what is known of them."""

from typing import Any

import pytest
from tests.samples import small_data

from noisefloor.contract.files import Files
from noisefloor.contract.job import Git
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.subject import Subject
from noisefloor.gate.files import doubt

JOBS, OTHER, MERGE = "a" * 40, "b" * 40, "c" * 40
GIT = Git(sha=JOBS)
DATA = small_data()
FILE = {"safetensors": "weights.safetensors"}
PINNED = {**FILE, "sha256": "0" * 64}
OWN = [
    {"import": "net:build", "data": DATA},
    {"zoo": "multiple-ops", "weights": FILE, "data": DATA},
    {"zoo": "multiple-ops", "data": {**DATA, "evaluation": {**FILE, "batch": 2}}},
]
NOT_OWN = [
    {"zoo": "multiple-ops", "data": DATA},
    {"zoo": "multiple-ops", "weights": PINNED, "data": DATA},
    {"operator": {"name": "quantize_per_tensor", "shape": [4, 4]}},
    {"conformance": "quantized::linear"},
]


def said(files: Files | None, git: Git = GIT, subject: dict[str, Any] = OWN[0]) -> tuple[str, bool] | None:
    against = doubt(git, Subject.model_validate(subject), files)
    return None if against is None else (against.message, against.certain)


@pytest.mark.parametrize("subject", OWN)
def test_other_files_are_certain_and_what_to_do_is_said(subject: dict[str, Any]) -> None:
    message = (
        "measured from files of bbbbbbbbbbbb, not of the job's aaaaaaaaaaaa: check that commit out, "
        "or start the worker with --checkout"
    )
    assert said(Files(commit=OTHER), subject=subject) == (message, True)


@pytest.mark.parametrize("subject", NOT_OWN)
def test_what_no_commit_can_change_is_not_doubted_unless_files_are_said_of_it(
    subject: dict[str, Any],
) -> None:
    assert said(None, subject=subject) is None
    assert said(Files(commit=GIT.sha), subject=subject) is None
    assert said(Files(commit=OTHER), subject=subject) == said(Files(commit=OTHER))


def test_a_job_without_a_commit_is_not_doubted() -> None:
    assert said(None, Git()) is None


@pytest.mark.parametrize(
    ("files", "git"),
    [
        (Files(commit=JOBS), GIT),
        (Files(commit=JOBS), Git(sha=JOBS[:7])),
        (Files(commit=JOBS[:7]), GIT),
        (Files(commit=JOBS), Git(sha=JOBS, merge=MERGE)),
        (Files(commit=MERGE), Git(sha=JOBS, merge=MERGE)),
        (Files(commit=JOBS, dirty=True), Git(sha=JOBS, dirty=True)),
    ],
)
def test_the_jobs_files_are_not_doubted(files: Files, git: Git) -> None:
    assert said(files, git) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (Files(commit=JOBS, dirty=True), "the files differed from commit aaaaaaaaaaaa"),
        (Files(reason="no git"), "whether the files were those of commit aaaaaaaaaaaa: no git"),
        (Files(commit=OTHER, reason="elsewhere"), "those of commit aaaaaaaaaaaa: elsewhere"),
        (Files(), "whoever measured them does not say"),
        (None, "whoever measured them does not say"),
    ],
)
def test_what_is_not_known_is_said_and_is_not_certain(files: Files | None, message: str) -> None:
    found = said(files)
    assert found is not None
    assert message in found[0]
    assert not found[1]


def test_a_merge_that_nobody_names_is_another_commit() -> None:
    found = said(Files(commit=MERGE))
    assert found is not None
    assert found[1]


def test_changed_files_of_another_commit_are_not_excused_by_a_changed_checkout() -> None:
    found = said(Files(commit=OTHER, dirty=True), Git(sha=JOBS, dirty=True))
    assert found is not None
    assert found[1]


def test_a_result_from_before_files_were_looked_at_is_readable() -> None:
    assert CellResult.model_validate({"cell": "0", "status": "done"}).files is None
