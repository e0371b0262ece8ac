"""The runners that one thread keeps. No torch here."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from noisefloor.contract.lane import Isa
from noisefloor_workers.runner.supervisor import Runner

RUNNERS_KEPT = 4


class Runners:
    """The runners kept warm, one for each (ISA cap, threads); the least recently used one goes first."""

    def __init__(self, make: Callable[[Isa, int], Runner] = Runner) -> None:
        self._make = make
        self._kept: dict[tuple[Isa, int], Runner] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for runner in self._kept.values():
            runner.close()

    def take(self, isa: Isa, threads: int) -> Runner:
        """The runner for a lane's process."""
        key = (isa, threads)
        runner = self._kept.pop(key, None) or self._make(isa, threads)
        self._kept[key] = runner
        while len(self._kept) > RUNNERS_KEPT:
            self._kept.pop(next(iter(self._kept))).close()
        return runner
