"""Commits of a real git repository, measured one after another: what clients send is what `git` says."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session
from tests.measuring import measure
from tests.samples import ENVIRONMENT, result, spec

from noisefloor.contract.gate import BaselineRequest
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult, Environment
from noisefloor.contract.verdict import Absence, Finding
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store import absences, tables
from noisefloor.workflow.accept import mark

SCHEME = {"flow": "eager", "mode": "static", "edge": "float32->true"}
START = datetime(2026, 1, 1, tzinfo=UTC)
ANCESTORS = 100
MERGE_BASE = {"source": "merge_base", "branch": "main"}
NEAREST = {**MERGE_BASE, "fallback": "nearest_ancestor"}


class Repository:
    """A git repository whose commits are an hour apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits = 0
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        at = (START + timedelta(hours=self.commits)).isoformat()
        who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_AUTHOR_DATE": at}
        committer = {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "GIT_COMMITTER_DATE": at}
        alone = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": "/nowhere"}
        return subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin:/usr/local/bin", **who, **committer, **alone},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def commit(self, branch: str = "main") -> str:
        """One more commit on the branch, which is made where it is not there."""
        self.on(branch)
        self.commits += 1
        self.git("commit", "--quiet", "--allow-empty", "--message", f"commit {self.commits}")
        return self.git("rev-parse", "HEAD")

    def on(self, branch: str) -> None:
        known = self.git("branch", "--list", branch)
        current = self.git("symbolic-ref", "--short", "HEAD")
        if current != branch:
            self.git("switch", "--quiet", *([branch] if known else ["--create", branch]))

    def merge(self, branch: str, *how: str) -> str:
        """Merge a branch into the current one by a commit of its own."""
        self.commits += 1
        self.git("merge", "--quiet", "--no-ff", "--message", f"merge {branch}", *how, branch)
        return self.git("rev-parse", "HEAD")

    def facts(self, sha: str, branch: str, ancestors: int = ANCESTORS) -> dict[str, Any]:
        """What a client sends of a commit."""
        line = self.git("rev-list", "--first-parent", f"--max-count={ancestors + 1}", sha).split()
        at = self.git("show", "--no-patch", "--format=%cI", sha)
        return {"branch": branch, "sha": sha, "committed_at": at, "ancestors": line[1:]}


class Project:
    """A repository and the service that measures its commits."""

    def __init__(self, session: Session, settings: Settings, folder: Path) -> None:
        self.session, self.settings = session, settings
        self.repository = Repository(folder)

    def measure(
        self,
        figure: float | dict[str, float] | None,
        branch: str = "main",
        sha: str | None = None,
        *,
        baseline: dict[str, Any] | None = None,
        ancestors: int = ANCESTORS,
        engines: tuple[str, ...] = ("x86",),
        environment: Environment = ENVIRONMENT,
        unsupported: tuple[str, ...] = (),
        tag: str | None = None,
        git: dict[str, Any] | None = None,
        rules: dict[str, Any] | None = None,
        name: str = "nightly",
        **policy: Any,
    ) -> tables.Job:
        """Commit on the branch, if no commit is given, and measure it: one figure, or one of each engine."""
        sha = sha or self.repository.commit(branch)
        facts = self.repository.facts(sha, branch, ancestors) if git is None else git
        rules = {"max_drop_db": 0.5} if rules is None else rules
        lanes = list(engines)

        def answer(cell: str) -> CellResult:
            engine = lanes[self.measured % len(lanes)]
            self.measured += 1
            if engine in unsupported:
                return CellResult(cell=cell, status=CellStatus.UNSUPPORTED, reason="not built")
            of_engine = figure[engine] if isinstance(figure, dict) else figure
            return result(cell, of_engine, environment=environment)

        self.measured = 0
        return measure(
            self.session,
            self.settings,
            LocalDispatch(),
            spec(
                name=name,
                git={**facts, "tag": tag},
                schemes=[SCHEME],
                lanes={"engine": lanes},
                policy={"rules": rules, "baseline": baseline or {}, **policy},
            ),
            answer,
        )

    def finding(self, job: tables.Job) -> Finding:
        """What was found of the job's only measurement."""
        query = select(tables.Finding).where(
            tables.Finding.job_id == job.id, tables.Finding.measurement_id.is_not(None)
        )
        return Finding.model_validate(self.session.scalars(query).one().document)

    def missing(self, job: tables.Job) -> list[Absence]:
        return [Absence.model_validate(row.document) for row in absences.of_job(self.session, job.id)]

    def accept(self, **asked: Any) -> list[str]:
        request = {"kind": "accept", "reason": "a smaller model", "by": "ann", **asked}
        return mark(self.session, "demo", BaselineRequest.model_validate(request))[1]
