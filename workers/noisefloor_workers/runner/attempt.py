"""One child at work: its lines read, its time and memory watched, its end told."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.runner.link import ANSWER_S, Link, RunnerUnavailable
from noisefloor_workers.runner.memory import own_bytes
from noisefloor_workers.runner.messages import Exited, ShardTask
from noisefloor_workers.runner.phase import Phase
from noisefloor_workers.runner.storable import storable

TICK_S = 1.0
WATCH_S = 0.1
READ_BYTES = 65_536
# A cell's result is some kilobytes; a child that writes this much without a newline is not reporting.
LINE_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class End:
    """How a child ended before its cells did, and what that is put down to."""

    status: CellStatus
    reason: str
    cell: str | None
    in_subject: bool
    output_tail: str
    elapsed_s: float


class Attempt:
    """A child for some cells. `results` gives them back; `end` then says why it stopped short, if it did."""

    def __init__(self, link: Link, task: ShardTask) -> None:
        self._link = link
        self._limits = task.limits
        self._base_bytes = own_bytes(link.pid)
        self._phase = Phase(task)
        self._received = b""
        self._results_ended = False
        self._closed = False
        self._exited: Exited | None = None
        self.end: End | None = None
        self.pid, self._results_fd = link.fork(task)

    def results(self, on_tick: Callable[[str], bool]) -> Iterator[CellResult]:
        """Results as they come, until all cells have ended, the child has, or `on_tick` says to stop."""
        next_tick_s = time.monotonic()
        while not self._phase.finished:
            exited = self._wait()
            for line in self._lines():
                result = self._phase.take(line)
                if result is not None:
                    yield result
                    # the time that the receiver took is not the child's
                    self._phase.restart_clock()
            if self._phase.finished:
                return
            verdict = self._crash() if exited else self._overrun()
            if verdict is not None:
                self._stop(*verdict)
                return
            if time.monotonic() >= next_tick_s:
                next_tick_s = time.monotonic() + TICK_S
                if not on_tick(self._phase.text):
                    return

    def close(self) -> None:
        """End the child if it still lives, and wait until the server has buried it."""
        self._end_child()
        if not self._closed:
            os.close(self._results_fd)
            self._closed = True

    def _wait(self) -> bool:
        """Wait a moment for the child to say something; whether it has exited."""
        if not self._link.has_event:
            watched: list[Any] = [
                self._link.socket,
                *([] if self._results_ended else [self._results_fd]),
            ]
            readable, _, _ = select.select(watched, [], [], WATCH_S)
            if self._link.socket not in readable:
                return False
        try:
            event = self._link.receive(WATCH_S)
        except RunnerUnavailable as error:
            # the kernel has ended the child with its server, or the server was ended by it
            event = Exited(output_tail=storable(str(error)))
        if isinstance(event, Exited):
            self._exited = event
        return self._exited is not None

    def _lines(self) -> Iterator[bytes]:
        """The whole lines that are there now. While the child lives READ_BYTES at most, to keep watch."""
        while not self._results_ended:
            try:
                data = os.read(self._results_fd, READ_BYTES)
            except BlockingIOError:
                return
            self._results_ended = not data
            *whole, self._received = (self._received + data).split(b"\n")
            yield from whole
            if self._exited is None:
                return

    def _overrun(self) -> tuple[CellStatus, str] | None:
        timeout_s, memory_bytes = self._limits.cell_timeout_s, self._limits.memory_bytes
        if self._phase.elapsed_s > timeout_s:
            what = "loading the subject" if self._phase.in_subject else "the cell"
            return CellStatus.TIMED_OUT, f"{what} took longer than {timeout_s:g} s, at: {self._phase.text}"
        if own_bytes(self.pid) - self._base_bytes > memory_bytes:
            return (
                CellStatus.OUT_OF_MEMORY,
                f"held more than {self._limits.memory_gib:g} GiB, at: {self._phase.text}",
            )
        if len(self._received) > LINE_BYTES:
            return CellStatus.CRASHED, f"wrote {LINE_BYTES} bytes of results without the end of a line"
        return None

    def _crash(self) -> tuple[CellStatus, str]:
        if self._exited is not None and self._exited.signal is not None:
            how = f"was killed by {_signal_name(self._exited.signal)}"
        elif self._exited is not None and self._exited.code is not None:
            how = f"exited with code {self._exited.code} before it was done"
        else:
            how = "was lost with its server"
        return CellStatus.CRASHED, f"the process {how}, at: {self._phase.text}"

    def _stop(self, status: CellStatus, reason: str) -> None:
        elapsed_s = self._phase.elapsed_s
        self._end_child()
        self.end = End(
            status=status,
            reason=reason,
            cell=self._phase.blamed,
            in_subject=self._phase.in_subject,
            output_tail=self._exited.output_tail if self._exited else "",
            elapsed_s=elapsed_s,
        )

    def _end_child(self) -> None:
        """Have the child killed, and wait for the server's word; a server that gives none is ended itself."""
        if self._exited is not None:
            return
        self._link.kill_child()
        with contextlib.suppress(RunnerUnavailable):
            event = self._link.receive(ANSWER_S)
            self._exited = event if isinstance(event, Exited) else None
        if self._exited is None:
            self._link.close()
            self._exited = Exited()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
