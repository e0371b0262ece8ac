"""The command that checks a commit out: what it is given, how it fails, and how it is stopped."""

import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.repositories import Repository, run
from tests.service import ROOT

from noisefloor.cli.offers import command_of
from noisefloor_workers.checkout import CheckoutFailedError, prepare

SHA = "a" * 40


def test_the_commit_is_put_in_and_stands_in_the_environment(tmp_path: Path) -> None:
    script = 'echo "$1 $NOISEFLOOR_SHA" > "$0"'
    assert prepare(["sh", "-c", script, str(tmp_path / "said"), "{sha}"], SHA)
    assert (tmp_path / "said").read_text() == f"{SHA} {SHA}\n"


def test_the_command_in_the_docs_has_a_commit_that_is_newer_than_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # as the worker sets it for good
    (shown,) = re.findall(r'--checkout "(.*)"', (ROOT / "docs" / "operations.md").read_text())
    upstream = Repository(tmp_path / "upstream")
    upstream.commit()
    clone = upstream.clone(tmp_path / "clone")
    upstream.git("checkout", "--quiet", "--detach")
    forked = upstream.commit()  # as of a pull request from a fork, on no branch
    upstream.git("update-ref", "refs/pull/1/head", forked)
    upstream.git("checkout", "--quiet", "main")
    for sha in (forked, upstream.commit()):
        assert prepare(command_of(shown.replace("/src", str(clone)), slots=1), sha)
        assert run(clone, "rev-parse", "HEAD") == sha


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", "echo first; echo no such commit >&2; exit 3"], "ended with 3: no such commit"),
        (["sh", "-c", "echo told on standard output; exit 1"], "ended with 1: told on standard output"),
        (["/nowhere/git"], "'/nowhere/git' cannot be run: No such file or directory"),
    ],
)
def test_a_command_that_fails_says_how(command: list[str], said: str) -> None:
    with pytest.raises(CheckoutFailedError, match=said):
        prepare(command, SHA)


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    command = ["sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; wait"]
    with pytest.raises(CheckoutFailedError, match="took longer than 0 s"):
        prepare(command, SHA, limit_s=0)
    until_ended(int((tmp_path / "pid").read_text()))


def test_a_command_is_ended_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    command = ["sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid; wait"]
    assert not prepare(command, SHA, lambda: False)
    until_ended(int((tmp_path / "pid").read_text()))


def until_ended(pid: int) -> None:
    """Wait until a process is gone, or waits only to be buried by whoever has adopted it."""
    stat = Path(f"/proc/{pid}/stat")
    with suppress(FileNotFoundError, ProcessLookupError):
        while stat.read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}:
            time.sleep(0.01)
