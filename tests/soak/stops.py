"""Workers that are stopped past their lease, and write when they wake: what they write must be refused."""

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, event, or_, select
from sqlalchemy.orm import Session
from tests.soak.crew import Role, spawning
from tests.soak.plain import PlainRunner
from tests.soak.soak import LOOK_S, STILL_S, Outcome, Wanted, Watch, count, crew_and_user
from tests.soak.stage import Stage, cast, stage
from tests.soak.user import Posting

from noisefloor.contract.lane import Isa
from noisefloor.contract.measurement import CellResult
from noisefloor.store import shards
from noisefloor.store.session import database_now, open_engine
from noisefloor.store.tables import Cell, Shard
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import OnTick

MEASURING, RECORDING, COMMITTING = "while it measured", "before it recorded", "before its commit"
PAUSE_S = 0.1  # of a cell: long enough that a heartbeat falls into it
SETTLE_S = 0.05  # a signal to the whole process reaches the thread that sent it a moment later
POLL_S = 0.02
PATIENCE_S = 60.0
WORKERS, ASLEEP = 12, 9  # those that are awake take over
SQLITE_STAGES = 6  # one process each: it stops whole, and its other slots take over when it wakes
WINDOW = 24


class Stop(NamedTuple):
    """A process that is about to stop itself, and what it holds."""

    pid: int
    shard: str
    attempt: int
    cell: str
    point: str
    until_done: bool  # it is woken when the other has finished, not when it has begun


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """How a runner stops its process: `permits` are taken, `told` and `accepted` heard by the harness."""

    database: str
    permits: Any = field(default_factory=lambda: spawning.Semaphore(0))
    told: Any = field(default_factory=spawning.SimpleQueue)
    accepted: Any = field(default_factory=spawning.SimpleQueue)


class StoppingRunner(PlainRunner):
    """Stops its process at a point of a shard, and goes on when another attempt has taken the shard over."""

    def __init__(self, stopping: Stopping, isa: Isa, threads: int) -> None:
        super().__init__(isa, threads)
        self._stopping = stopping
        self._engine = open_engine(stopping.database)
        self._due: Stop | None = None
        self._committing: int | None = None  # the thread whose next commit it is
        event.listen(Session, "before_commit", self._before_commit)

    def close(self) -> None:
        """Let go of the database."""
        event.remove(Session, "before_commit", self._before_commit)
        self._engine.dispose()

    def run(self, task: ShardTask, on_tick: OnTick) -> Generator[CellResult]:
        """Measure as ever, but for one stop in a first attempt if there is a permit."""
        stop = self._drawn(task)
        if stop is None:
            yield from super().run(task, on_tick)
            return
        try:
            yield from self._stopped(stop, task, on_tick)
        finally:
            if self._due is not None:  # it lost its shard before it came to that
                self._due = None
                self._stopping.permits.release()

    def _stopped(self, stop: Stop, task: ShardTask, on_tick: OnTick) -> Generator[CellResult]:
        self._due = stop

        def tick(progress: str) -> bool:
            if self._due is None or stop.point != MEASURING:
                return on_tick(progress)
            self._sleep(stop)
            goes_on = on_tick(progress)
            self._stopping.accepted.put(stop)
            return goes_on

        for result in super().run(task, tick):
            is_recording = self._due is not None and stop.point == RECORDING
            if is_recording:
                self._sleep(stop)
            elif self._due is not None and stop.point == COMMITTING:
                self._committing = threading.get_ident()
            yield result
            if is_recording:
                self._stopping.accepted.put(stop)

    def _drawn(self, task: ShardTask) -> Stop | None:
        cell = task.cells[0].cell
        with Session(self._engine) as session:
            query = (
                select(Shard.id, Shard.attempt).join(Cell, Cell.shard_id == Shard.id).where(Cell.id == cell)
            )
            shard, attempt = session.execute(query).one()
        if attempt > 1 or not self._stopping.permits.acquire(block=False):
            return None
        point = random.choice((MEASURING, RECORDING, COMMITTING))
        return Stop(os.getpid(), shard, attempt, cell, point, random.random() < 0.5)

    def _sleep(self, stop: Stop) -> None:
        self._stop_now(stop)
        deadline_s = time.monotonic() + PATIENCE_S
        while not _taken_over(self._engine, stop):
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"nobody took over: {stop}")
            time.sleep(POLL_S)

    def _before_commit(self, session: Session) -> None:
        if self._due is None or self._committing != threading.get_ident():
            return
        self._committing = None
        held = select(Shard.attempt).where(Shard.id == self._due.shard)
        if session.scalar(held) == self._due.attempt:
            self._stop_now(self._due)

    def _stop_now(self, stop: Stop) -> None:
        self._due = None
        self._stopping.told.put(stop)
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(SETTLE_S)


def _is_stopped(pid: int) -> bool:
    """Whether it stands still: what it tells of may be heard before the signal that it sends itself."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _taken_over(engine: Engine, stop: Stop) -> bool:
    with Session(engine) as session:
        attempt, status = session.execute(
            select(Shard.attempt, Shard.status).where(Shard.id == stop.shard)
        ).one()
    return attempt > stop.attempt and (status == shards.DONE or not stop.until_done)


def _unleased(engine: Engine, stop: Stop) -> bool:
    with Session(engine) as session:
        ran_out = or_(Shard.lease_until < database_now(), Shard.attempt > stop.attempt)
        return bool(session.scalar(select(ran_out).where(Shard.id == stop.shard)))


def stops(wanted: Wanted) -> Outcome:
    """Stop workers so many times, wake each after its lease, and count what was written late."""
    parts = SQLITE_STAGES if wanted.database == "sqlite" else 1
    shares = [len(range(part, wanted.cells, parts)) for part in range(parts)]
    whole, figures = Outcome(), Counter[str]()
    with ThreadPoolExecutor(parts) as pool:
        for figures_of_one, violations in pool.map(partial(_stops, wanted), filter(None, shares)):
            figures.update(figures_of_one)
            whole.violations += violations
    whole.figures = {"lease, s": wanted.lease_s, **figures}
    return whole


def _stops(wanted: Wanted, number: int) -> tuple[dict[str, int], list[str]]:
    with stage(wanted.database) as at:
        stopping = Stopping(database=at.database)
        roles, urls = cast(
            at,
            kernels="plain",
            slots=3 if at.on_sqlite else 1,
            workers=WORKERS,
            lease_s=wanted.lease_s,
            make=partial(StoppingRunner, stopping),
        )
        if wanted.without == "fence":
            roles = [Role(name=role.name, act=partial(_unfenced, role.act)) for role in roles]
        outcome = Outcome()
        with crew_and_user(roles, urls, at, outcome) as (crew, user):
            posting = Posting(user, cells=sys.maxsize, window=WINDOW, args={"pause_s": PAUSE_S})
            watch = Watch(at, crew, user, posting, time.monotonic())
            waker = Waker(at, stopping, number)
            try:
                waker.until_done(watch)
            finally:
                posting.finish()
            watch.until_still(STILL_S)
        outcome.violations += waker.violations
        figures = {
            "jobs": posting.jobs,
            **{f"stopped {point}": times for point, times in waker.points.items()},
            "stale writes": _stale(at, waker, stopping, outcome),
        }
        count(outcome, at, user, plain=True)
        return figures, outcome.violations


def _unfenced(act: Callable[[], None]) -> None:
    """Work without the guard: whoever had the shard once may write."""

    def anybody(session: Session, shard_id: str, _attempt: int) -> Shard | None:
        running = select(Shard).where(Shard.id == shard_id, Shard.status == shards.RUNNING)
        return session.scalar(running.with_for_update())

    shards.fenced = anybody
    act()


class Waker:
    """Gives permits, and wakes who stopped once the lease has run out and the shard was taken over."""

    def __init__(self, at: Stage, stopping: Stopping, number: int) -> None:
        self._at, self._stopping, self._number = at, stopping, number
        self._given = 0
        self._asleep: list[Stop] = []
        self.woken: list[Stop] = []
        self.violations: list[str] = []
        for _ in range(1 if at.on_sqlite else ASLEEP):
            self._permit()

    @property
    def points(self) -> Counter[str]:
        """How often a process was stopped where."""
        return Counter(stop.point for stop in self.woken)

    def until_done(self, watch: Watch) -> None:
        """Until so many have been stopped and woken, or nothing moves any more.

        Who looks may wait for an answer of a service that sleeps, and is not waited for.
        """
        with ThreadPoolExecutor(1) as looker:
            try:
                self._until_done(partial(looker.submit, watch.look))
            finally:
                for stop in self._asleep:
                    self.violations.append(f"stuck: {stop} was not taken over")
                    os.kill(stop.pid, signal.SIGCONT)
        if len(self.woken) < self._number:
            self.violations.append(f"stuck: {len(self.woken)} of {self._number} were stopped and woken")

    def _until_done(self, look: Callable[[], Future[None]]) -> None:
        moved_s = looked_s = time.monotonic()
        looking = look()
        while len(self.woken) < self._number and time.monotonic() - moved_s < PATIENCE_S:
            while not self._stopping.told.empty():
                self._asleep.append(self._stopping.told.get())
            for stop in [stop for stop in self._asleep if self._may_wake(stop)]:
                self._asleep.remove(stop)
                os.kill(stop.pid, signal.SIGCONT)
                self.woken.append(stop)
                self._permit()
                moved_s = time.monotonic()
            if looking.done() and time.monotonic() - looked_s > LOOK_S:
                looking.result()
                looking, looked_s = look(), time.monotonic()
            time.sleep(POLL_S)

    def _permit(self) -> None:
        if self._given < self._number:
            self._given += 1
            self._stopping.permits.release()

    def _may_wake(self, stop: Stop) -> bool:
        if not _is_stopped(stop.pid):
            return False
        if stop.point == COMMITTING or self._at.on_sqlite:
            return _unleased(self._at.watching, stop)
        return _taken_over(self._at.watching, stop)


def _stale(at: Stage, waker: Waker, stopping: Stopping, outcome: Outcome) -> int:
    """How many wrote after a takeover: as they saw it themselves, and as the database has it."""
    stale = []
    while not stopping.accepted.empty():
        stale.append(stopping.accepted.get())
    with Session(at.watching) as session:
        written = {row.id: row.attempt for row in session.execute(select(Cell.id, Cell.attempt))}
    for stop in waker.woken:
        if stop.point == COMMITTING and written[stop.cell] != stop.attempt:
            outcome.violations.append(f"lost: {stop} held its shard, and was overwritten")
        elif stop.point != COMMITTING and written[stop.cell] == stop.attempt and stop not in stale:
            stale.append(stop)
    outcome.violations += [f"stale: {stop} wrote after it was taken over" for stop in stale]
    return len(stale)
