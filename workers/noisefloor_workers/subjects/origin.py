"""Of which commit a shard's own files are: git is asked where they lie, once a shard.

It is asked after the subject was loaded: then a module is known by its file. The module of a factory or of a
plugin stands for all that it imports.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from noisefloor.contract.files import Files
from noisefloor.contract.job import Git
from noisefloor.contract.plugins import Plugin
from noisefloor.contract.subject import Subject
from noisefloor.gate.files import doubt, same
from noisefloor.git import CHANGED, git, repository
from noisefloor_workers.plugins import files as files_of
from noisefloor_workers.subjects import tensors
from noisefloor_workers.subjects.errors import SubjectError

LIMIT_S = 10.0  # of all that is asked for a subject
REASON_CHARS = 300
# Where these are set, as in a hook of git, they are about the repository of whoever started the worker.
ELSEWHERE = frozenset(
    {"GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"}
)
NOT_TRACKED = 1  # git's other refusals end with 128


class UnknownError(Exception):
    """Git does not say of which commit a file is."""


def origin(
    subject: Subject, wanted: Git, folder: Path | None, told: str | None, plugins: Iterable[Plugin] = ()
) -> Files | None:
    """The commit of the worker's own files; None where the job names none, or nothing is the worker's own.

    `told` is the commit that the worker was told they are of: it counts where git does not say, and never
    against what git says. A plugin is the worker's own where git finds it in the job's repository, and else a
    package by its version. Of several files, the one that fits the wanted commit least.
    """
    if wanted.sha is None:
        return None
    asked = Asked(wanted)
    found = [_of(path, asked, told) for path in _own(subject, folder)]
    found += [files for path in files_of(plugins) if (files := _of(path, asked, None)).reason is None]
    if not found:
        return None

    def misfit(files: Files) -> int:
        against = doubt(wanted, subject, files)
        return 0 if against is None else 1 + against.certain

    return max(found, key=misfit)


def _own(subject: Subject, folder: Path | None) -> Iterator[Path | str]:
    """Each of the worker's own files, or why it is not known which it is."""
    if subject.import_ is not None:
        name = subject.import_.partition(":")[0]
        yield _file_of(name) or f"module {name} is of no file"
    for source in subject.unpinned:
        try:
            yield tensors.below(folder, source.safetensors or "")
        except (SubjectError, OSError) as error:
            yield str(error)


def _file_of(module: str) -> Path | None:
    try:
        file = sys.modules[module].__file__
        return Path(file) if file else None
    except Exception:  # noqa: BLE001 - a module may put anything in its own place
        return None


def _of(path: Path | str, asked: "Asked", told: str | None) -> Files:
    if isinstance(path, str):
        found = Files(reason=_text(path))
    else:
        try:
            found = asked.of(path.resolve())
        except UnknownError as error:
            found = Files(reason=_text(f"{path.name}: {error}"))
        except subprocess.TimeoutExpired:
            found = Files(reason=_text(f"{path.name}: git took longer than {LIMIT_S:g} s"))
        except (OSError, ValueError) as error:
            found = Files(reason=_text(f"{path.name}: git cannot be asked: {error}"))
    return Files(commit=told) if told is not None and found.reason is not None else found


class Asked:
    """What git says of files, held against the commit that a job names; within LIMIT_S."""

    def __init__(self, wanted: Git) -> None:
        self._wanted, self._sha = wanted, wanted.sha or ""
        self._until_s = time.monotonic() + LIMIT_S
        self._environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}

    def of(self, path: Path) -> Files:
        """The commit that is checked out where a file lies, and whether anything tracked there differs.

        Raises `UnknownError` with why that is not known.
        """
        listed = self._ask(path, "--literal-pathspecs", "ls-files", "--error-unmatch", "--", path.name)
        if listed.returncode == NOT_TRACKED:
            raise UnknownError("the repository that it lies in does not track it")
        if listed.returncode:
            raise UnknownError(listed.stderr)
        head = self._said(path, "rev-parse", "--verify", "HEAD^{commit}").strip()
        if same(head, self._sha) or head == self._wanted.merge:
            return Files(commit=head, dirty=bool(self._said(path, *CHANGED)))
        if self._is_of_the_jobs_repository(path, head):
            return Files(commit=head)
        unrelated = f"{path.name} is of a repository that does not know the commit"
        return Files(commit=head, reason=_text(unrelated))

    def _is_of_the_jobs_repository(self, path: Path, head: str) -> bool:
        """A checkout that was not brought up to date does not know the commit: its name or its past tell."""
        if head in self._wanted.ancestors:
            return True
        if self._ask(path, "cat-file", "-e", f"{self._sha}^{{commit}}").returncode == 0:
            return True
        remote = repository(self._ask(path, "remote", "get-url", "origin").stdout.strip())
        wanted = self._wanted.repository
        return remote is not None and wanted is not None and remote.lower() == wanted.lower()

    def _said(self, path: Path, *arguments: str) -> str:
        answer = self._ask(path, *arguments)
        if answer.returncode:
            raise UnknownError(answer.stderr)
        return answer.stdout

    def _ask(self, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        left_s = max(0.0, self._until_s - time.monotonic())
        return git(path.parent, *arguments, environment=self._environment, limit_s=left_s)


def _text(reason: str) -> str:
    """One line that can be stored."""
    words = " ".join(reason.replace("\x00", "").split())
    return words.encode("utf-8", "replace").decode()[:REASON_CHARS]
