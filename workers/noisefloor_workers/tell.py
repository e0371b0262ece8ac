"""What this process's torch can run, as one line of JSON: `python -m noisefloor_workers.tell`."""

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import torch

from noisefloor.contract.lane import QUANTIZED_ENGINES, Device, Engine
from noisefloor.contract.worker import Capabilities
from noisefloor_workers.lanes.environment import environment, under_cap
from noisefloor_workers.lanes.isa import machine_isas
from noisefloor_workers.plugins import installed

GIB = 2**30
# Linux control groups, version 2 and 1, as a container sees its own
CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
PACKAGES = ("torchao", "executorch", "transformers")


def capabilities() -> Capabilities:
    """Engines that are built in, the packages and the compiler that others need, and the machine's size."""
    found = {name: version for name in PACKAGES if (version := _version(name)) is not None}
    built = torch.backends.quantized.supported_engines
    engines: list[Engine] = [engine for engine in QUANTIZED_ENGINES if engine in built]
    engines += ["inductor"] if shutil.which(os.environ.get("CXX", "c++")) else []
    engines += ["xnnpack"] if "executorch" in found else []
    engines += ["aten"]
    devices: tuple[Device, ...] = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    native = environment(plugins=installed()).replace(threads=1)
    return Capabilities(
        engines=tuple(engines),
        devices=devices,
        isas=machine_isas(),
        threads=os.cpu_count() or 1,
        memory_gib=memory_bytes() / GIB,
        machine=platform.machine(),
        torch=torch.__version__,
        packages=found,
        environments=tuple(under_cap(native, isa) for isa in machine_isas()),
    )


def memory_bytes(limits: Sequence[Path] = CONTAINER_LIMITS) -> int:
    """The machine's memory, or what a container may take of it."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in limits:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            found.append(int(limit.read_text(encoding="ascii")))
    return min(found)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.stdout.write(f"{capabilities().model_dump_json()}\n")
