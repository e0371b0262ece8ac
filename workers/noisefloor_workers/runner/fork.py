"""The conformance suite's worker inside a runner's child: forked, since the child has torch already.

It starts in some ten milliseconds where a new interpreter takes two seconds, which an operator that ends its
process costs again for each case. It runs under the child's limits, in its group, and is ended with it.
"""

import faulthandler
import os
import signal
import sys
import traceback
from typing import IO, NoReturn

from noisefloor_workers.conformance.process import Process
from noisefloor_workers.conformance.worker import serve
from noisefloor_workers.runner import confinement

EXIT_BROKEN = 70


class ForkedProcess(Process):
    """The suite's process, forked from this one: it is under this one's ISA cap, and no other."""

    def spawn(self, stderr: IO[bytes]) -> "Fork":
        """A child with the worker in it."""
        return Fork(stderr.fileno())


class Fork:
    """A forked worker between two pipes."""

    def __init__(self, stderr_fd: int) -> None:
        asked_fd, self_asks_fd = os.pipe()
        self_hears_fd, said_fd = os.pipe()
        parent_pid = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _serve(parent_pid, (asked_fd, said_fd, stderr_fd))
        os.close(asked_fd)
        os.close(said_fd)
        self._exit_code: int | None = None
        self.stdin: IO[bytes] = os.fdopen(self_asks_fd, "wb")
        self.stdout: IO[bytes] = os.fdopen(self_hears_fd, "rb")

    def kill(self) -> None:
        """End it, if it has not been waited for."""
        if self._exit_code is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, or less than zero the signal that ended it."""
        if self._exit_code is None:
            self._exit_code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._exit_code


def _serve(parent_pid: int, streams: tuple[int, int, int]) -> NoReturn:
    """Answer questions until there are none, and end the process without the interpreter's own goodbye."""
    code = EXIT_BROKEN
    try:
        confinement.die_with_parent(parent_pid)
        faulthandler.disable()  # how the process ended is told; where in Python adds nothing to it
        for standard_fd, fd in enumerate(streams):
            os.dup2(fd, standard_fd)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        sys.stdin, sys.stderr = os.fdopen(0), os.fdopen(2, "w")  # those of the parent may be read, or wrapped
        serve()
        code = 0
    except BaseException:  # noqa: BLE001 - the last frame of the process: it is told and the code says so
        traceback.print_exc()
    finally:
        os._exit(code)
