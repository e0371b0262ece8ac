"""What the forked child does: confine itself, walk the shard, write what happens, and leave."""

import os
import sys
import traceback
from typing import NoReturn

import torch

from noisefloor_workers.lanes.device import limit_device_memory, why_not_device
from noisefloor_workers.runner import confinement
from noisefloor_workers.runner.messages import ShardTask, line
from noisefloor_workers.runner.walk import walk

EXIT_BROKEN = 70


def live(task: ShardTask, *, server_pid: int, results_fd: int, output_fd: int) -> NoReturn:
    """Run a shard and end the process, whatever happens, without the interpreter's own goodbye."""
    code = EXIT_BROKEN
    try:
        os.setsid()
        confinement.die_with_parent(server_pid)
        confinement.redirect(output_fd, results_fd)
        # before the limit: what a driver takes for itself is not the model's doing
        why_not_device(task.device)
        confinement.limit_memory(task.limits.memory_bytes)
        limit_device_memory(task.device, task.limits.memory_bytes)
        torch.set_num_threads(task.threads)
        for event in walk(task):
            _write(results_fd, line(event))
        code = 0
    except BaseException:  # noqa: BLE001 - the last frame of the process: it is told and the code says so
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
