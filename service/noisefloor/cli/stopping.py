"""How a process that serves or measures is told to stop: once to do it well, and then hard."""

import os
import signal
from collections.abc import Callable
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT)
SIGNALLED = 128  # and the signal's number: the exit code of what a signal ended


def on_stop(stop: Callable[[signal.Signals], object], *, within_s: int) -> None:
    """Call `stop` at the first SIGTERM or SIGINT. It runs between any two instructions: it may set a flag.

    A second one, or `within_s` without an end, ends the process where it is; what it had in hand is then
    found by its lease, as after a crash. That is a handler, too: the default action does nothing to process 1
    of a container.
    """

    def told(number: int, _frame: FrameType | None) -> None:
        for again in (*STOPS, signal.SIGALRM):
            signal.signal(again, _end)
        signal.alarm(within_s)
        stop(signal.Signals(number))

    for first in STOPS:
        signal.signal(first, told)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(SIGNALLED + number)
