"""What a child is at, since when, and what of its words is taken."""

import time

from pydantic import ValidationError

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.runner.messages import (
    CHILD_EVENT,
    CellFinished,
    CellStarted,
    ShardTask,
    Step,
)

# How a cell can end is the child's to say in these ways only; the rest is what the supervisor saw itself.
CHILD_STATUSES = frozenset(
    {CellStatus.DONE, CellStatus.UNSUPPORTED, CellStatus.FAILED, CellStatus.OUT_OF_MEMORY}
)


class Phase:
    """One child's progress through a shard, from lines that may be anything.

    The clock of a phase starts with the fork, with the first start of each cell, and with each end of a
    cell; so a child cannot stretch its time by repeating itself.
    """

    def __init__(self, task: ShardTask) -> None:
        self._waiting = {cell.cell for cell in task.cells}
        self._order = [cell.cell for cell in task.cells]
        self._started: set[str] = set()
        self.cell: str | None = None
        self.in_subject = True
        self.text = f"starting {task.subject.label}"
        self.restart_clock()

    def restart_clock(self) -> None:
        self._since_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._since_s

    @property
    def blamed(self) -> str | None:
        """The cell that the child's end is put down to: the one it is at, or would have come to next."""
        return self.cell or next((cell for cell in self._order if cell in self._waiting), None)

    @property
    def finished(self) -> bool:
        return not self._waiting

    def take(self, line: bytes) -> CellResult | None:
        """The result that a line carries, if it is one and its cell is still waited for."""
        try:
            event = CHILD_EVENT.validate_json(line)
        except ValidationError:
            return None
        match event:
            case Step(text=text):
                self.text = text
            case CellStarted(cell=cell) if cell in self._waiting and cell not in self._started:
                self._started.add(cell)
                self.cell, self.in_subject = cell, False
                self.restart_clock()
            case CellFinished(result=result) if (
                result.cell in self._waiting and result.status in CHILD_STATUSES
            ):
                self._waiting.discard(result.cell)
                self.cell, self.in_subject = None, False
                self.restart_clock()
                return result
        return None
