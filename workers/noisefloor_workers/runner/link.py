"""The supervisor's end of a fork server: starting it, speaking with it, ending it. No torch here."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO

from pydantic import ValidationError

from noisefloor.contract.lane import Isa
from noisefloor_workers.lanes.isa import cap_variables, machine_isas
from noisefloor_workers.runner.messages import KILL, SERVER_EVENT, Exited, Forked, Ready, ShardTask
from noisefloor_workers.runner.storable import storable

START_S = 120.0
ANSWER_S = 30.0
WAIT_S = 1.0
RECEIVE_BYTES = 65_536
STDERR_TAIL_BYTES = 8_192

# A library that asks for CUDA while it is imported must not start it in a process that is to fork. To be
# deterministic, cuBLAS needs a workspace of a fixed size.
CUDA = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

# A model may read its environment: it is given what Python and the loader need, and no secret.
PASSED_ON = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"),
    *(
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "VIRTUAL_ENV",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "CUDA_VISIBLE_DEVICES",
    ),
)


class RunnerUnavailable(Exception):  # noqa: N818 - a state of the worker, reported as such
    """The fork server does not start, or does not answer: no cell of this lane can run on this worker."""


class Link:
    """One fork server for one instruction cap and one thread count."""

    def __init__(self, *, isa: Isa, threads: int) -> None:
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the link
        self._received = b""
        ours, theirs = socket.socketpair()
        self.socket = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "noisefloor_workers.runner.server"],
                stdin=theirs.fileno(),
                stdout=self._stderr,
                stderr=self._stderr,
                env=environment_for(isa, threads),
                start_new_session=True,
            )
        self._ready = False
        self._lost = False
        self._deadline_s = time.monotonic() + START_S

    def start(self, on_wait: Callable[[], bool]) -> bool:
        """Wait until the server has imported torch; False once `on_wait`, asked each second, says so."""
        while not self._ready:
            self._ready = isinstance(self.receive(WAIT_S), Ready)
            if not self._ready and time.monotonic() > self._deadline_s:
                raise self._unavailable(f"did not start within {START_S:g} s")
            if not (self._ready or on_wait()):
                return False
        return True

    @property
    def alive(self) -> bool:
        """Whether it can be asked. A process that was killed hangs up before it can be waited for."""
        return not self._lost and self._process.poll() is None

    @property
    def has_event(self) -> bool:
        """Whether `receive` has something to give without reading."""
        return b"\n" in self._received

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, task: ShardTask) -> tuple[int, int]:
        """Have a child forked for a shard; its process id, and the descriptor to read its results from."""
        results_fd, child_fd = os.pipe()
        try:
            socket.send_fds(self.socket, [b"\n"], [child_fd])
            self.socket.sendall(task.line())
            forked = self._forked()
        except OSError as error:
            os.close(results_fd)
            raise self._unavailable(f"hung up: {error}") from error
        except BaseException:
            os.close(results_fd)
            raise
        finally:
            os.close(child_fd)
        os.set_blocking(results_fd, False)
        return forked.pid, results_fd

    def kill_child(self) -> None:
        """Ask the server to end its child: it alone knows that the process id is still the child's."""
        with contextlib.suppress(OSError):
            self.socket.sendall(KILL + b"\n")

    def receive(self, timeout_s: float) -> Ready | Forked | Exited | None:
        """The server's next event; None if it says nothing in time. RunnerUnavailable when it has hung up."""
        deadline_s = time.monotonic() + timeout_s
        while not self.has_event:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return None
            self.socket.settimeout(left_s)
            try:
                data = self.socket.recv(RECEIVE_BYTES)
            except TimeoutError:
                return None
            except OSError as error:
                raise self._unavailable(f"hung up: {error}") from error
            finally:
                self.socket.settimeout(None)
            if not data:
                raise self._unavailable("ended")
            self._received += data
        found, _, self._received = self._received.partition(b"\n")
        try:
            return SERVER_EVENT.validate_json(found)
        except ValidationError as error:
            raise self._unavailable(f"said what it should not: {error}") from error

    def close(self) -> None:
        """End the server, and with it its child; nothing is left behind."""
        self.socket.close()
        try:
            self._process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def _forked(self) -> Forked:
        answer = self.receive(ANSWER_S)
        if not isinstance(answer, Forked):
            raise self._unavailable("did not fork a child")
        return answer

    def _unavailable(self, what: str) -> RunnerUnavailable:
        self._lost = True
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_TAIL_BYTES))
        tail = storable(self._stderr.read().decode("utf-8", "replace")).strip()
        return RunnerUnavailable(f"the runner's server {what}" + (f"; it said: {tail}" if tail else ""))


def environment_for(isa: Isa, threads: int) -> dict[str, str]:
    """The variables of a server process.

    A cap above the machine is left out: a library that believed it would die of an illegal instruction. The
    cells then find that the cap is not there, and say so.
    """
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    caps = cap_variables(isa) if isa in machine_isas() else {}
    counts = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    # OpenBLAS starts its threads at import, and a process with threads must not fork
    return {**passed_on, **caps, **counts, **CUDA, "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
