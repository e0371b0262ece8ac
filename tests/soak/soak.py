"""The soak: cells are measured while workers and services are killed at random; then all is counted."""

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session
from tests.soak import audit
from tests.soak.crew import Crew
from tests.soak.stage import Stage, cast, stage
from tests.soak.user import Posting, StoppedError, User

from noisefloor.contract.job import CellStatus
from noisefloor.store.shards import LEASE_S
from noisefloor.store.tables import Worker

LOOK_S = 0.5
READY_S = 0.05
KILLED_WHILE_THEY_START = 0.2
SHOW_S = 10.0
STILL_S = 60.0  # without any cell that ends: several leases
SLOTS = 3
WORKERS = 3
WINDOW = {"plain": 200, "real": 24}
SLACK = timedelta(minutes=1)  # of what is stamped: how well a busy process knows the database's clock
LOG_FAULTS = ("Traceback", "database is locked", "deadlock detected")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a soak is asked for. `skew_s`: clocks are ahead and behind by so much.

    `without` takes a guard out, to show that the soak sees it.
    """

    cells: int
    database: str
    gap_s: float = 0.5
    lease_s: float = LEASE_S
    kernels: str = "plain"
    skew_s: float = 0.0
    without: str | None = None


@dataclass
class Outcome:
    """What was counted, and each thing that is wrong."""

    figures: dict[str, object] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def show(self) -> None:
        """Print both."""
        for name, figure in self.figures.items():
            print(f"{name:>22}  {figure}")
        for violation in self.violations[:50]:
            print(f"VIOLATION: {violation}")
        print(
            f"{len(self.violations)} violations" if self.violations else "0 lost, 0 doubled, 0 stuck: clean"
        )


def soak(wanted: Wanted) -> Outcome:
    """Post, kill, wait, and count."""
    with stage(wanted.database) as at:
        plain = {"lease_s": wanted.lease_s} if wanted.kernels == "plain" else {}
        roles, urls = cast(at, kernels=wanted.kernels, slots=SLOTS, workers=WORKERS, **plain)
        skews = itertools.cycle((wanted.skew_s, -wanted.skew_s, 0.0))
        roles = [replace(role, skew_s=skew_s) for role, skew_s in zip(roles, skews, strict=False)]
        outcome, since = Outcome(), datetime.now(UTC)
        with crew_and_user(roles, urls, at, outcome, sends_key=wanted.without != "key") as (crew, user):
            posting = Posting(user, cells=wanted.cells, window=WINDOW[wanted.kernels])
            started_s = time.monotonic()
            killer = Killer(crew, at, wanted.gap_s)
            watch = Watch(at, crew, user, posting, started_s)
            try:
                watch.until_still(STILL_S)
            finally:
                killer.stop()
            watch.until_still(STILL_S)
            user.stopping.set()
            posting.finish()
            outcome.figures = watch.figures()
        count(outcome, at, user, plain=wanted.kernels == "plain")
        with Session(at.watching) as session:
            about = {"since": since - SLACK, "until": datetime.now(UTC) + SLACK}
            outcome.violations += audit.wrong_times(session, **about)
        return outcome


@contextmanager
def crew_and_user(
    roles: list, urls: list[str], at: Stage, outcome: Outcome, *, sends_key: bool = True
) -> Iterator[tuple[Crew, User]]:
    """Both at work; what is wrong with either, or with what it said, is a violation."""
    user = User(urls, sends_key=sends_key)
    crew = Crew(roles, at.folder)
    try:
        with crew:
            looking = threading.Thread(target=user.look_around, name="reader")
            looking.start()
            try:
                yield crew, user
            finally:
                user.stopping.set()
                looking.join()
    finally:
        user.close()
    outcome.violations += [*crew.faults, *user.faults, *at.complaints()]
    said = crew.log()
    for sign in LOG_FAULTS:
        if sign in said:
            start = said.index(sign)
            outcome.violations.append(f"a process said:\n{said[max(0, start - 500) : start + 3_000]}")


def count(outcome: Outcome, at: Stage, user: User, *, plain: bool) -> None:
    """Hold the database against what was acknowledged, and against itself."""
    with Session(at.watching) as session:
        outcome.violations += audit.violations(session, user.acknowledged, plain=plain)
    broken = list(audit.integrity(at.watching))
    outcome.violations += broken
    outcome.figures["integrity"] = f"{len(broken)} faults" if broken else "ok"


class Killer:
    """Ends a process of the crew at random, in exponential gaps that count while there is a worker.

    On a busy machine one that is killed as soon as it has started never measures. Some are killed while they
    start all the same.
    """

    def __init__(self, crew: Crew, at: Stage, gap_s: float) -> None:
        self._crew, self._at, self._gap_s = crew, at, gap_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._kill, name="killer")
        self._thread.start()

    def stop(self) -> None:
        """Let everybody live."""
        self._stopping.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._stopping.wait(random.expovariate(1 / self._gap_s)):
            self._crew.kill(random.choice(self._crew.members))
            if random.random() > KILLED_WHILE_THEY_START:
                self._wait_for_a_worker()

    def _wait_for_a_worker(self) -> None:
        while not self._stopping.wait(READY_S):
            with Session(self._at.watching) as session:
                names = session.scalars(select(Worker.name)).all()
            if {int(name.rpartition(":")[2]) for name in names} & self._crew.pids():
                return


class Watch:
    """Looks at the database from outside; has crashed cells retried, as a user would."""

    def __init__(self, at: Stage, crew: Crew, user: User, posting: Posting, started_s: float) -> None:
        self._at, self._crew, self._user, self._posting = at, crew, user, posting
        self._started_s = self._shown_s = started_s
        self._ended = self._retried_shards = self._retried_cells = 0

    def until_still(self, still_s: float) -> None:
        """Return when everything has ended, or nothing has for so long."""
        moved_s, moved = time.monotonic(), self._ended
        while time.monotonic() - moved_s < still_s:
            time.sleep(LOOK_S)
            self.look()
            if self._posting.done and not self._posting.waiting:
                return
            if self._ended != moved:
                moved_s, moved = time.monotonic(), self._ended

    def look(self) -> None:
        """See how far it is, say so now and then, and have what crashed retried."""
        with Session(self._at.watching) as session:
            seen = audit.progress(session)
            lost = audit.crashed(session)
        self._posting.waiting = seen[CellStatus.QUEUED] + seen[CellStatus.CRASHED]
        self._ended = sum(seen.values()) - self._posting.waiting
        for job_id, (shards, cells) in lost.items():
            try:
                self._user.retry(job_id)
            except StoppedError:
                return
            self._retried_shards += shards
            self._retried_cells += cells
        if time.monotonic() - self._shown_s > SHOW_S:
            self._shown_s = time.monotonic()
            print("  ".join(f"{name} {figure}" for name, figure in self.figures().items()), flush=True)

    def figures(self) -> dict[str, object]:
        """What there is to say so far."""
        with Session(self._at.watching) as session:
            claims, shards = audit.attempts(session)
            offs = {round(row["clock_off_s"]) for row in session.scalars(select(Worker.capabilities))}
        elapsed_s = time.monotonic() - self._started_s
        return {
            "jobs": self._posting.jobs,
            "cells ended": self._ended,
            **{f"kills of {role}": number for role, number in sorted(self._crew.kills.items())},
            "cells/s": round(self._ended / elapsed_s, 1),
            "shards": shards,
            "attempts": claims,
            "leases lost": claims - shards - self._retried_shards,
            "crashed and retried": self._retried_cells,
            **dict(sorted(self._user.counts.items())),
            "clocks off, s": " ".join(str(off) for off in sorted(offs)),
            "seconds": round(elapsed_s, 1),
        }
