"""A real measurement without torch: int8 affine quantization of floats in plain Python, in a forked child.

A worker that runs it starts in a tenth of a second where torch takes four, so that it can be killed often.
"""

import ctypes
import math
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from typing import NoReturn

from tests.samples import ENVIRONMENT

from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import CellResult, CellTask, Measurement
from noisefloor.contract.subject import Subject
from noisefloor.contract.sums import Sums
from noisefloor.contract.worker import Capabilities
from noisefloor_workers.runner.confinement import PR_SET_PDEATHSIG
from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import OnTick, Runner, RunnerUnavailable

ENGINES = ("qnnpack", "onednn", "x86", "fbgemm")
CAPABILITIES = Capabilities(
    engines=ENGINES, isas=("native",), threads=2, memory_gib=64, machine="x86_64", torch=ENVIRONMENT.torch
)
SAMPLES = 64
TICK_S = 1.0
READ_BYTES = 65_536

# found before any fork: the loader's lock may be held by another thread of the worker
_prctl = ctypes.CDLL(None).prctl


def quantized(values: list[float]) -> list[float]:
    """The values as int8 holds them: x' = (q - z)·s, with q = clamp(round(x / s) + z, -128, 127).

    s = (max - min) / 255 over the values and zero, z = round(-128 - min / s). Source: Jacob et al.,
    arXiv:1712.05877.

    >>> quantized([-128.0, 0.4, 127.0])
    [-128.0, 0.0, 127.0]
    """
    low, high = min(0.0, *values), max(0.0, *values)
    scale = (high - low) / 255
    zero = round(-128 - low / scale)
    levels = (max(-128, min(127, round(value / scale) + zero)) for value in values)
    return [(level - zero) * scale for level in levels]


def sums_of(subject: Subject, lane: Lane) -> Sums:
    """What a cell measures: its floats are drawn from the subject's seed and the lane: no two are alike."""
    source = random.Random(f"{subject.seeds.evaluation}/{lane.engine}/{lane.threads}")
    ref = [source.uniform(-1, 1) for _ in range(SAMPLES)]
    actual = quantized(ref)
    errors = [r - a for r, a in zip(ref, actual, strict=True)]
    return Sums(
        n=SAMPLES,
        ref_sq=math.fsum(r * r for r in ref),
        actual_sq=math.fsum(a * a for a in actual),
        ref_actual=math.fsum(r * a for r, a in zip(ref, actual, strict=True)),
        err_sq=math.fsum(e * e for e in errors),
        max_abs_err=max(map(abs, errors)),
    )


class PlainRunner(Runner):
    """Runs each shard in a child forked from the worker, which dies with it."""

    def start(self, on_tick: OnTick = lambda _progress: True) -> None:
        """Nothing has to be imported."""

    def run(self, task: ShardTask, on_tick: OnTick) -> Generator[CellResult]:
        """Give back each cell of the task once; stop when `on_tick` says so."""
        results_fd, child_fd = os.pipe()
        worker_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            _live(task, worker_pid, child_fd)
        os.close(child_fd)
        try:
            yield from _results(results_fd, len(task.cells), on_tick)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(results_fd)


def _results(fd: int, cells: int, on_tick: OnTick) -> Iterator[CellResult]:
    received, ended, next_tick_s = b"", 0, time.monotonic()
    while ended < cells:
        if time.monotonic() >= next_tick_s:
            next_tick_s = time.monotonic() + TICK_S
            if not on_tick("measuring in plain Python"):
                return
        if not select.select([fd], [], [], TICK_S)[0]:
            continue
        data = os.read(fd, READ_BYTES)
        if not data:
            raise RunnerUnavailable("the child ended before its cells did")
        *whole, received = (received + data).split(b"\n")
        for line in whole:
            ended += 1
            yield CellResult.model_validate_json(line)


def _live(task: ShardTask, worker_pid: int, results_fd: int) -> NoReturn:
    code = 1
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == worker_pid:
            # the worker's sockets and lock are not the child's to hold
            os.closerange(3, results_fd)
            os.closerange(results_fd + 1, os.sysconf("SC_OPEN_MAX"))
            for cell in task.cells:
                time.sleep(float(task.subject.args.get("pause_s", 0)))
                os.write(results_fd, f"{_measured(task.subject, cell).model_dump_json()}\n".encode())
            code = 0
    except BrokenPipeError:
        pass  # the worker was killed, and this process is about to be
    except BaseException:  # noqa: BLE001 - the last frame of the process
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


def _measured(subject: Subject, cell: CellTask) -> CellResult:
    sums = sums_of(subject, cell.lane)
    return CellResult(
        cell=cell.cell,
        status=CellStatus.DONE,
        environment=ENVIRONMENT,
        executed_engine=cell.lane.engine,
        measurements=(Measurement(edge="float32->true", figure=sums.sqnr_db(), sums=sums),),
    )
