"""The runner: gives shards to children of a fork server, and watches over them. No torch here.

    with Runner(isa="native", threads=1) as runner:
        for result in runner.run(task, on_tick=lambda progress: True):
            ...

Every cell of a task is given back once, with a typed end, whatever its model does to the child.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Self

from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Isa
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.runner.attempt import Attempt, End
from noisefloor_workers.runner.link import Link, RunnerUnavailable
from noisefloor_workers.runner.messages import ShardTask

__all__ = ["MAX_CRASHES", "OnTick", "Runner", "RunnerUnavailable"]

MAX_CRASHES = 3

OnTick = Callable[[str], bool]


class Runner:
    """One fork server, started when it is first needed and again when it has died; one task at a time."""

    def __init__(self, isa: Isa = "native", threads: int = 1) -> None:
        self.isa: Isa = isa
        self.threads = threads
        self._link: Link | None = None
        self._attempt: Attempt | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """The running child; None between tasks."""
        return self._attempt.pid if self._attempt else None

    @property
    def server_pid(self) -> int | None:
        return self._link.pid if self._link else None

    def start(self, on_tick: OnTick = lambda _progress: True) -> None:
        """Start the server now; otherwise the first task does. RunnerUnavailable if it does not start.

        `on_tick` as in `run`: when it returns False the start is waited for no longer.
        """
        self._started(on_tick)

    def close(self) -> None:
        """End the child and the server; the runner may be used again."""
        if self._attempt:
            self._attempt.close()
            self._attempt = None
        if self._link:
            self._link.close()
            self._link = None

    def run(self, task: ShardTask, on_tick: OnTick) -> Generator[CellResult]:
        """Give back each cell of the task once, as it ends.

        `on_tick` is called about every second with what is being done; when it returns False the child is
        killed and the generator ends, its other cells not given back. A cell whose child died is run again
        in a fresh one, `MAX_CRASHES` times in all. RunnerUnavailable if there is no server to run it.
        """
        if (task.isa, task.threads) != (self.isa, self.threads):
            raise ValueError(f"the task is for {task.isa}, {task.threads} threads; the runner is not")
        pending = {cell.cell: cell for cell in task.cells}
        crashes: Counter[str | None] = Counter()
        lost = 0
        while pending:
            link = self._started(on_tick)
            if link is None:
                return
            try:
                attempt = self._attempt = Attempt(link, task.replace(cells=tuple(pending.values())))
            except RunnerUnavailable:
                # the server may have died since it was looked at: another is started, but not for ever
                lost += 1
                if lost == MAX_CRASHES:
                    raise
                continue
            try:
                for result in attempt.results(on_tick):
                    del pending[result.cell]
                    yield result
                    if self._attempt is not attempt:  # the runner was closed meanwhile
                        return
            finally:
                attempt.close()
                self._attempt = None
            if attempt.end is None:
                return
            for result in _ended(attempt.end, pending, crashes):
                del pending[result.cell]
                yield result

    def _started(self, on_tick: OnTick) -> Link | None:
        """The server, ready to fork; None if `on_tick` says to stop while it starts."""
        if self._link is not None and not self._link.alive:
            self._link.close()
            self._link = None
        if self._link is None:
            self._link = Link(isa=self.isa, threads=self.threads)
        try:
            ready = self._link.start(
                lambda: on_tick(f"starting torch for {self.isa}, {self.threads} threads")
            )
        except RunnerUnavailable:
            self._link.close()
            self._link = None
            raise
        return self._link if ready else None


def _ended(end: End, pending: Iterable[str], crashes: Counter[str | None]) -> list[CellResult]:
    """The results that a child's end decides: of the cell it was at, or of all while it loads."""
    concerned = list(pending) if end.in_subject else [cell for cell in pending if cell == end.cell]
    status = end.status
    if status is CellStatus.CRASHED:
        blamed = None if end.in_subject else end.cell
        crashes[blamed] += 1
        if crashes[blamed] < MAX_CRASHES:
            return []
    return [
        CellResult(
            cell=cell,
            status=status,
            reason=end.reason,
            traceback=end.output_tail or None,
            duration_s=end.elapsed_s,
        )
        for cell in concerned
    ]
