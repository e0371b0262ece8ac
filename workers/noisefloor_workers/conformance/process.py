"""The suite's end of a worker: a process under an ISA cap, asked one question at a time. No torch here."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Protocol, Self

from pydantic import ValidationError

from noisefloor.contract.lane import Isa
from noisefloor_workers.conformance.messages import ANSWER, Answer, Broken, Question, line
from noisefloor_workers.lanes.isa import VARIABLES, cap_variables

COMMAND = (sys.executable, "-m", "noisefloor_workers.conformance.worker")
# The first answer waits for the import of torch
START_S = 120.0
CASE_S = 60.0
READ_BYTES = 1 << 20
TAIL_BYTES = 2_000


class Crashed(Exception):  # noqa: N818 - an outcome of a case, not a fault of the suite
    """The process ended, or did not answer in time."""


class SuiteError(Exception):
    """The suite cannot be trusted or cannot run: no verdict."""


class Running(Protocol):
    """A worker's process, as `subprocess.Popen` has it."""

    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    def kill(self) -> None: ...
    def wait(self) -> int: ...


class Process:
    """A worker, started at the first question and again at the first after it died."""

    def __init__(self, isa: Isa, *, command: Sequence[str] = COMMAND, case_s: float = CASE_S) -> None:
        self.isa = isa
        self._command = tuple(command)
        self._case_s = case_s
        self._running: Running | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._said_before = 0
        self._answered = False
        self._limit_s = START_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._stderr.close()

    def ask(self, question: Question) -> Answer:
        """The answer; Crashed where the process dies of the question, SuiteError where it never worked."""
        process = self._running or self._start()
        self._said_before = self._stderr.seek(0, os.SEEK_END)
        try:
            stdin = _pipe(process.stdin)
            stdin.write(line(question))
            stdin.flush()
            said = self._read(process)
        except (OSError, EOFError, TimeoutError) as error:
            reason = self._why(process, error)
            self._end()
            if not self._answered:
                raise SuiteError(f"a worker does not start: {reason}") from None
            raise Crashed(reason) from None
        try:
            answer = ANSWER.validate_json(said)
        except ValidationError as error:
            raise SuiteError(f"a worker said what it should not: {error}") from None
        if isinstance(answer, Broken):
            raise SuiteError(answer.reason)
        self._answered, self._limit_s = True, self._case_s
        return answer

    def _start(self) -> Running:
        self._limit_s = START_S
        self._running = self.spawn(self._stderr)
        return self._running

    def spawn(self, stderr: IO[bytes]) -> Running:
        """A new process with the worker in it."""
        inherited = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        return subprocess.Popen(  # noqa: S603 - this interpreter, on a module of ours
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**inherited, **cap_variables(self.isa), **threads},
        )

    def _read(self, process: Running) -> bytes:
        stdout = _pipe(process.stdout)
        said, deadline_s = b"", time.monotonic() + self._limit_s
        while not said.endswith(b"\n"):
            left_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([stdout], [], [], left_s)[0]:
                raise TimeoutError
            some = os.read(stdout.fileno(), READ_BYTES)
            if not some:
                raise EOFError
            said += some
        return said

    def _why(self, process: Running, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._limit_s:g} s"
        code = process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(self._said_before, size - TAIL_BYTES))
        tail = self._stderr.read().decode("utf-8", "replace").replace("\0", "").strip()
        return f"the process ended with {how}" + (f"; it said: {tail}" if tail else "")

    def _end(self) -> None:
        if self._running is None:
            return
        for pipe in (self._running.stdin, self._running.stdout):
            try:
                _pipe(pipe).close()
            except OSError:  # it died with a question half read
                continue
        self._running.kill()
        self._running.wait()
        self._running = None
        self._stderr.seek(0)
        self._stderr.truncate()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    """The pipe that the process was started with."""
    if pipe is None:
        raise SuiteError("a worker was started without a pipe")
    return pipe
