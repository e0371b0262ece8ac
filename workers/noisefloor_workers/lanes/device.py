"""The device that a process measures on, and how CUDA's arithmetic is held there.

A process has one device. CUDA does not live through a fork, and asking whether it is there starts it: all of
this belongs into the forked child, and none of it into the server or into a module's top level.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import torch

from noisefloor.contract.lane import Device
from noisefloor_workers.lanes.engine import Unsupported

backends: Any = torch.backends  # some of its functions carry no types
DRIVER = Path("/proc/driver/nvidia/version")


@cache
def why_not_device(device: Device) -> str | None:
    """Why this process cannot compute on a device; None where it can, and has now started it.

    One product is computed: a driver that is too old, and a GPU that this build of torch has no kernels for,
    are found out no earlier.
    """
    if device == "cpu":
        return None
    if not backends.cuda.is_built():
        return f"torch sees no CUDA device: its build {torch.__version__} is without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    try:
        one = torch.ones(1, 1, device=device)
        torch.mm(one, one).item()
    except RuntimeError as error:
        return f"torch cannot use the CUDA device: {str(error).splitlines()[0]}"
    return None


def hold(device: Device) -> None:
    """Choose the device for the rest of the process; Unsupported where it is not there.

    cuBLAS is deterministic only with `CUBLAS_WORKSPACE_CONFIG`, which the server's environment has.
    """
    refusal = why_not_device(device)
    if refusal is not None:
        raise Unsupported(refusal)
    if device == "cuda":
        only_float32_and_deterministic()


def only_float32_and_deterministic() -> None:
    """TF32 off, deterministic algorithms on, cuDNN's benchmark off."""
    # torch's newer `fp32_precision` says the same, but then whoever reads `allow_tf32` gets an error
    backends.cuda.matmul.allow_tf32 = False
    backends.cudnn.allow_tf32 = False
    backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(mode=True)


def limit_device_memory(device: Device, memory_bytes: int) -> None:
    """Let torch's allocations on a device fail beyond a limit, as those in memory do."""
    if device == "cuda" and why_not_device(device) is None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory_bytes / total))


def device_facts(device: Device) -> dict[str, Any]:
    """The fields of an environment that a device adds, as torch reports them now; none for the CPU."""
    if device == "cpu" or why_not_device(device) is not None:
        return {}
    found = torch.cuda.get_device_properties(device)
    cudnn = backends.cudnn.version()
    return {
        "gpu": found.name,
        "compute_capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "driver": driver_version(DRIVER),
        "cudnn": None if cudnn is None else str(cudnn),
        **arithmetic(),
    }


def arithmetic() -> dict[str, bool]:
    """What holds of the rules of `hold`, read back from torch."""
    return {
        "tf32": backends.cuda.matmul.allow_tf32 or backends.cudnn.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled()
        and not torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_benchmark": backends.cudnn.benchmark,
    }


def driver_version(path: Path) -> str | None:
    """The version of NVIDIA's kernel module, which torch does not tell; None where the system does not."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return found.group(1) if found else None
