"""A small fork server: `python -m noisefloor_workers.runner.server`.

It imports torch once, under the lane's variables, and forks a child for each shard: some ten milliseconds
where a cold import takes two seconds. Its standard input is a socket to the supervisor; each shard comes as
a line of JSON, with the write end of a pipe for the child's results. One child lives at a time.

It ends, and its child with it, when the socket closes. That is tied to the supervisor's process, where the
kernel's parent-death signal would be tied to the one thread that happened to start the server.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import NoReturn, Protocol

from noisefloor_workers.runner.confinement import adopt_orphans
from noisefloor_workers.runner.messages import KILL, Exited, Forked, Ready, ServerEvent, ShardTask, line
from noisefloor_workers.runner.storable import storable

RECEIVE_BYTES = 65_536
OUTPUT_TAIL_BYTES = 8_192
POLL_S = 0.02


class Live(Protocol):
    """What a forked child does for the rest of its life."""

    def __call__(self, task: ShardTask, *, server_pid: int, results_fd: int, output_fd: int) -> NoReturn: ...


class Server:
    """The supervisor's socket, and what came in on it."""

    def __init__(self, control: socket.socket, live: Live) -> None:
        self._control = control
        self._live = live
        self._received = b""
        self._fds: list[int] = []

    def serve(self) -> None:
        """Fork for each line until the socket closes."""
        self._tell(Ready())
        while (task_line := self._next_line()) is not None:
            if task_line != KILL:  # a kill that crossed the child's own end
                self._run(ShardTask.model_validate_json(task_line), self._fds.pop(0))

    def _run(self, task: ShardTask, results_fd: int) -> None:
        server_pid = os.getpid()
        with tempfile.TemporaryFile() as output:
            pid = os.fork()
            if pid == 0:
                self._live(task, server_pid=server_pid, results_fd=results_fd, output_fd=output.fileno())
            os.close(results_fd)
            self._tell(Forked(pid=pid))
            self._watch(pid)
            status = _end(pid)
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - OUTPUT_TAIL_BYTES))
            tail = storable(output.read(OUTPUT_TAIL_BYTES).decode("utf-8", "replace"))
        code = os.waitstatus_to_exitcode(status)
        self._tell(
            Exited(code=code if code >= 0 else None, signal=-code if code < 0 else None, output_tail=tail)
        )

    def _watch(self, pid: int) -> None:
        """Return when the child has ended, when it is to be killed, or when nobody listens any more."""
        pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        try:
            while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                waiting: list[socket.socket | int] = [self._control, *([] if pidfd is None else [pidfd])]
                readable, _, _ = select.select(waiting, [], [], POLL_S if pidfd is None else None)
                if self._control in readable and self._next_line() in {KILL, None}:
                    return
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def _next_line(self) -> bytes | None:
        """The next line that says something; None at the end of the stream."""
        while True:
            while b"\n" in self._received:
                found, _, self._received = self._received.partition(b"\n")
                if found:
                    return found
            try:
                data, fds, _, _ = socket.recv_fds(self._control, RECEIVE_BYTES, 1)
            except ConnectionError:
                return None
            self._fds += fds
            if not data:
                return None
            self._received += data

    def _tell(self, event: ServerEvent) -> None:
        with contextlib.suppress(ConnectionError):  # the end of the stream is found by the next read
            self._control.sendall(line(event))


def _end(pid: int) -> int:
    """Kill the child, its group and whatever it started elsewhere; its wait status.

    The child is still a zombie while its group is signalled, so its id cannot have passed to another.
    """
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    while adopted := _children():
        for orphan in adopted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)
    return status


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path("/proc/thread-self/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def main() -> None:
    """Import what children need, say so, and serve."""
    control = socket.socket(fileno=os.dup(0))
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.close(null_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    adopt_orphans()

    from noisefloor_workers.runner.child import live

    # what was loaded is shared by all children: the collector is not to touch, and so copy, its pages
    gc.collect()
    gc.freeze()
    Server(control, live).serve()
    sys.exit(0)


if __name__ == "__main__":
    main()
