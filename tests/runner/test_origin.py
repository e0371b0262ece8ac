"""Of which commit a subject's own files are, on real git repositories."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.repositories import Repository, run
from tests.runner.conftest import SMALL, STATIC

from noisefloor.contract.files import Files
from noisefloor.contract.job import CellStatus, Git
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.subject import Subject
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects import origin as looking
from noisefloor_workers.subjects.origin import origin

MODEL = """
from torch import nn


def build():
    return nn.Sequential(nn.Linear(4, 4))


def breaks():
    raise RuntimeError("no model in this commit")
"""
IMAGES = {"calibration": {"shape": [4, 3, 15, 15]}, "evaluation": {"shape": [1, 3, 15, 15]}}
WEIGHTS = "weights.safetensors"


class Checkout:
    """A repository of two commits, the second one checked out, with a module that is imported from it."""

    def __init__(self, folder: Path, module: str, patch: pytest.MonkeyPatch) -> None:
        self.repository = Repository(folder)
        self.folder, self.module, self._patch = folder, module, patch
        (folder / f"{module}.py").write_text(MODEL)
        (folder / WEIGHTS).write_bytes(b"1")
        self.repository.git("add", WEIGHTS)
        self.first = self.repository.commit(f"{module}.py")
        (folder / WEIGHTS).write_bytes(b"2")
        self.repository.git("add", WEIGHTS)
        self.second = self.repository.commit(f"{module}.py")
        patch.syspath_prepend(str(folder))

    def load(self, path: Path | None = None) -> None:
        """What loading the subject leaves behind: a module that knows its file."""
        made = type(sys)(self.module)
        made.__file__ = str(path or self.folder / f"{self.module}.py")
        self._patch.setitem(sys.modules, self.module, made)

    def files(self, sha: str, told: str | None = None, *, weights: bool = False, **git: Any) -> Files:
        """What is said of the subject's files for a job at a commit."""
        subject: dict[str, Any] = {"import": f"{self.module}:build", "data": SMALL}
        if weights:
            subject["weights"] = {"safetensors": WEIGHTS}
        found = origin(Subject.model_validate(subject), Git(sha=sha, **git), self.folder, told)
        assert found is not None
        return found

    def cell(self, sha: str, factory: str = "build") -> CellResult:
        """A cell measured from what is checked out, of a job at a commit."""
        task = ShardTask.model_validate(
            {
                "subject": {"import": f"{self.module}:{factory}", "data": SMALL},
                "cells": [{"cell": "0", "scheme": STATIC, "lane": {"engine": "qnnpack"}}],
                "import_allow": [self.module],
                "git": {"sha": sha},
            }
        )
        (result,) = (event.result for event in walk(task) if isinstance(event, CellFinished))
        return result


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    module = f"net_{tmp_path.name}".replace("-", "_")
    made = Checkout(tmp_path / "checkout", module, monkeypatch)
    made.load()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield made
    torch.set_num_threads(threads)
    sys.modules.pop(module, None)


def test_the_files_of_the_commit(checkout: Checkout) -> None:
    assert checkout.files(checkout.second) == Files(commit=checkout.second)
    assert checkout.files(checkout.second[:7]) == Files(commit=checkout.second)


def test_the_files_of_a_merge_that_stands_for_the_commit(checkout: Checkout) -> None:
    unknown = "f" * 40
    assert checkout.files(unknown, merge=checkout.second) == Files(commit=checkout.second)


def test_files_that_differ_from_their_commit(checkout: Checkout) -> None:
    (checkout.folder / "untracked").write_text("new")
    assert not checkout.files(checkout.second).dirty
    (checkout.folder / WEIGHTS).write_bytes(b"changed")
    assert checkout.files(checkout.second) == Files(commit=checkout.second, dirty=True)


def test_the_files_of_another_commit_of_the_repository(checkout: Checkout) -> None:
    assert checkout.files(checkout.first) == Files(commit=checkout.second)


def test_a_checkout_that_does_not_know_the_newer_commit_is_told_by_its_past(checkout: Checkout) -> None:
    newer = "f" * 40
    assert checkout.files(newer, ancestors=(checkout.second, checkout.first)) == Files(commit=checkout.second)


def test_a_checkout_that_does_not_know_the_commit_is_told_by_its_remote(checkout: Checkout) -> None:
    newer = "f" * 40
    checkout.repository.git("remote", "add", "origin", "git@github.com:Org/repo.git")
    assert checkout.files(newer, repository="org/repo") == Files(commit=checkout.second)
    other = checkout.files(newer, repository="org/models")
    assert other.reason == f"{checkout.module}.py is of a repository that does not know the commit"


def test_nothing_is_fetched_to_find_out_whether_a_commit_is_known(checkout: Checkout, tmp_path: Path) -> None:
    for setting in ("allowFilter", "allowAnySHA1InWant"):
        checkout.repository.git("config", f"uploadpack.{setting}", "true")
    partial = checkout.repository.clone(tmp_path / "partial", "--filter=blob:none")
    later = checkout.repository.commit()
    checkout.load(partial / f"{checkout.module}.py")
    assert checkout.files(later).reason is not None
    assert later not in run(partial, "cat-file", "--batch-all-objects", "--batch-check")


@pytest.mark.parametrize("where", ["ignored", "no repository", "unborn"])
def test_files_of_no_commit(checkout: Checkout, tmp_path: Path, where: str) -> None:
    folders = {"ignored": checkout.folder / ".venv", "unborn": tmp_path / "unborn"}
    at = folders.get(where, tmp_path)
    if where == "unborn":
        Repository(at)
    at.mkdir(exist_ok=True)
    (checkout.folder / ".gitignore").write_text(".venv")
    module = at / f"{checkout.module}.py"
    module.write_text(MODEL)
    if where == "unborn":
        run(at, "add", module.name)
    checkout.load(module)
    found = checkout.files(checkout.second)
    assert found.commit is None
    words = {
        "ignored": "does not track it",
        "no repository": "not a git repository",
        "unborn": "single revision",
    }
    assert words[where] in (found.reason or "")


def test_where_git_is_not_there_it_is_not_known(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "git cannot be asked" in (checkout.files(checkout.second).reason or "")


def test_a_repository_of_another_user_is_not_known(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "dubious ownership" in (checkout.files(checkout.second).reason or "")


def test_git_that_hangs_is_not_waited_for(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = tmp_path / "bin" / "git"
    stuck.parent.mkdir()
    stuck.write_text("#!/bin/sh\nexec sleep 600\n")
    stuck.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stuck.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(looking, "LIMIT_S", 0.0)
    assert "git took longer than 0 s" in (checkout.files(checkout.second).reason or "")


def test_no_monitor_of_the_repository_is_started(checkout: Checkout, tmp_path: Path) -> None:
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    monitor.chmod(0o755)
    checkout.repository.git("config", "core.fsmonitor", str(monitor))
    assert checkout.files(checkout.second) == Files(commit=checkout.second)
    assert not (tmp_path / "started").exists()


def test_a_repository_that_the_environment_names_is_not_the_files(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Repository(tmp_path / "other")
    other.commit(f"{checkout.module}.py")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    assert checkout.files(checkout.second) == Files(commit=checkout.second)


@pytest.mark.parametrize("file", [None, 3, "", "\0"])
def test_a_module_of_no_file_is_not_known(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, file: object
) -> None:
    monkeypatch.setattr(sys.modules[checkout.module], "__file__", file)
    assert checkout.files(checkout.second).reason is not None
    monkeypatch.setitem(sys.modules, checkout.module, None)  # type: ignore[arg-type]
    assert "is of no file" in (checkout.files(checkout.second).reason or "")


def test_what_the_worker_was_told_counts_where_git_does_not_say(checkout: Checkout, tmp_path: Path) -> None:
    outside = tmp_path / "net.py"
    outside.write_text(MODEL)
    checkout.load(outside)
    assert checkout.files(checkout.second, checkout.second) == Files(commit=checkout.second)
    assert checkout.files(checkout.second, checkout.first) == Files(commit=checkout.first)


def test_what_the_worker_was_told_does_not_count_against_git(checkout: Checkout) -> None:
    assert checkout.files(checkout.first, checkout.first) == Files(commit=checkout.second)
    assert checkout.files(checkout.second, checkout.first) == Files(commit=checkout.second)


def test_of_several_files_the_one_that_fits_least_is_told(checkout: Checkout, tmp_path: Path) -> None:
    assert checkout.files(checkout.second, weights=True) == Files(commit=checkout.second)
    run(checkout.folder, "rm", "--quiet", "--cached", WEIGHTS)
    checkout.second = checkout.repository.commit()
    assert WEIGHTS in (checkout.files(checkout.second, weights=True).reason or "")
    checkout.load(checkout.repository.clone(tmp_path / "clone") / f"{checkout.module}.py")
    later = checkout.repository.commit()
    assert checkout.files(later, ancestors=(checkout.second,), weights=True) == Files(commit=checkout.second)
    checkout.load()
    (checkout.folder / WEIGHTS).unlink()
    assert f"{WEIGHTS} is no file" in (checkout.files(later, weights=True).reason or "")


def test_of_what_is_not_the_workers_own_nothing_is_said() -> None:
    zoo = Subject.model_validate({"zoo": "multiple-ops", "data": SMALL})
    assert origin(zoo, Git(sha="a" * 40), None, None) is None


@pytest.fixture
def plugin(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A scheme whose flow is a plugin in the checkout, installed as pip does with --editable."""
    info = tmp_path / "packages" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[noisefloor.flows]\nacme.ours = {checkout.module}:build\n")
    monkeypatch.syspath_prepend(str(info.parent))
    del sys.modules[checkout.module]
    return {**STATIC, "flow": "acme.ours"}


def files_of_plugin(scheme: dict[str, Any], sha: str) -> tuple[CellResult, ...]:
    """What a shard of a model of the zoo gives: a cell of ours and one of the plugin's."""
    cells = [
        {"cell": str(ordinal), "scheme": one, "lane": {"engine": "qnnpack"}}
        for ordinal, one in enumerate((STATIC, scheme))
    ]
    zoo = {"zoo": "multiple-ops", "data": IMAGES}
    task = ShardTask.model_validate({"subject": zoo, "cells": cells, "git": {"sha": sha}})
    return tuple(event.result for event in walk(task) if isinstance(event, CellFinished))


def test_a_plugin_of_the_repository_is_of_its_commit(checkout: Checkout, plugin: dict[str, Any]) -> None:
    ours, plugins = files_of_plugin(plugin, checkout.second)
    assert (ours.status, ours.files) == (CellStatus.DONE, Files(commit=checkout.second))
    assert plugins.files == Files(commit=checkout.second)


def test_a_plugin_of_another_commit_is_not_measured(checkout: Checkout, plugin: dict[str, Any]) -> None:
    for result in files_of_plugin(plugin, checkout.first):
        assert (result.status, result.files) == (CellStatus.FAILED, Files(commit=checkout.second))
        assert f"files of {checkout.second[:12]}, not of the job's" in (result.reason or "")


@pytest.mark.parametrize("module", [MODEL, None])
def test_a_plugin_that_is_not_of_the_repository_is_a_package_of_a_version(
    checkout: Checkout, plugin: dict[str, Any], tmp_path: Path, module: str | None
) -> None:
    (checkout.folder / f"{checkout.module}.py").unlink()
    if module is not None:
        (tmp_path / "packages" / f"{checkout.module}.py").write_text(module)
    assert [result.files for result in files_of_plugin(plugin, checkout.second)] == [None, None]


def test_a_cell_says_of_which_commit_it_was_measured(checkout: Checkout) -> None:
    del sys.modules[checkout.module]
    result = checkout.cell(checkout.second)
    assert (result.status, result.files) == (CellStatus.DONE, Files(commit=checkout.second))
    assert json.loads(result.model_dump_json())["files"]["commit"] == checkout.second


@pytest.mark.parametrize("factory", ["build", "breaks", "nowhere"])
def test_what_is_of_another_commit_is_not_measured(checkout: Checkout, factory: str) -> None:
    del sys.modules[checkout.module]
    result = checkout.cell(checkout.first, factory)
    assert (result.status, result.measurements) == (CellStatus.FAILED, ())
    assert result.files == Files(commit=checkout.second)
    assert f"files of {checkout.second[:12]}, not of the job's {checkout.first[:12]}" in (result.reason or "")
