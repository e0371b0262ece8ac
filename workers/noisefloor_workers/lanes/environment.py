"""The fingerprint of this process: what figures depend on beside the code."""

import platform
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from noisefloor.contract.lane import Device, Isa
from noisefloor.contract.measurement import Environment
from noisefloor_workers.lanes.device import device_facts
from noisefloor_workers.lanes.isa import ATEN, cap_variables, isa_in_force

FOREIGN_CAP = "other"
NO_PLUGINS: Mapping[str, str] = {}


def environment(device: Device = "cpu", plugins: Mapping[str, str] = NO_PLUGINS) -> Environment:
    """Versions, processor, instruction set after any cap, thread count and device, as they are now.

    `plugins`: versions of the packages that a cell uses plugins of.
    """
    return Environment(
        torch=torch.__version__,
        torchao=_version("torchao"),
        onednn=_onednn_version(torch.__config__.show()),
        python=platform.python_version(),
        cpu=_cpu_name(),
        isa=torch.backends.cpu.get_cpu_capability(),
        isa_cap=isa_in_force() or FOREIGN_CAP,
        threads=torch.get_num_threads(),
        os=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        plugins=dict(plugins),
        **device_facts(device),
    )


def under_cap(native: Environment, isa: Isa) -> Environment:
    """What a process under a cap measures in, without starting one: torch's words are those of its variable.

    >>> native = Environment(torch="2", python="3", cpu="", isa="AVX512", threads=1, os="", machine="")
    >>> under_cap(native, "avx2").isa, under_cap(native, "native").isa
    ('AVX2', 'AVX512')
    """
    held = cap_variables(isa).get(ATEN)
    return native.replace(isa_cap=isa, isa=native.isa if held is None else held.upper())


def _version(distribution: str) -> str | None:
    """A distribution's version without importing it: torchao takes seconds to import."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _onednn_version(build_summary: str) -> str | None:
    found = re.search(r"MKL-DNN v(\d+(?:\.\d+)*)", build_summary)
    return found.group(1) if found else None


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine() or "unknown"
