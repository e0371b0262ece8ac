"""How an exception ends a cell."""

import re

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult
from noisefloor_workers.flows.protocol import Unsupported
from noisefloor_workers.lanes.environment import environment
from noisefloor_workers.runner.storable import full_traceback, reason

# torch has no type for a failed allocation on the CPU: these are the words of its allocators
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "std::bad_alloc",
)

# torch's words for an operation that quantized tensors do not have; its dispatcher then lists every back end
NO_QUANTIZED_KERNEL = re.compile(r"Could not run '([\w:.]+)' with arguments from the 'Quantized\w+' backend")
NO_MIXED_KERNEL = "promoteTypes with quantized numbers is not handled yet"


def ended_by(error: BaseException, *, cell: str, duration_s: float) -> CellResult:
    """The typed result of a cell that raised. A failure has an environment as a figure has."""
    lack = _lack(error)
    if isinstance(error, Unsupported):
        status, said, trace = CellStatus.UNSUPPORTED, error.reason, None
    elif lack is not None:
        status, trace = CellStatus.UNSUPPORTED, full_traceback(error)
        said = ": ".join([*getattr(error, "__notes__", ()), lack])
    else:
        out_of_memory = isinstance(error, MemoryError) or (
            isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY_WORDS)
        )
        status = CellStatus.OUT_OF_MEMORY if out_of_memory else CellStatus.FAILED
        said, trace = reason(error), full_traceback(error)
    return CellResult(
        cell=cell,
        status=status,
        reason=said,
        traceback=trace,
        environment=environment(),
        duration_s=duration_s,
    )


def _lack(error: BaseException) -> str | None:
    """What torch has no quantized kernel for, if that is what it raised."""
    if not isinstance(error, RuntimeError):
        return None
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the exception may be a model's own
        return None
    missing = NO_QUANTIZED_KERNEL.match(message)
    if missing is not None:
        return f"{missing[1]} is called on a quantized tensor, for which torch has no kernel"
    if message.startswith(NO_MIXED_KERNEL):
        return "a quantized tensor meets a float one, and torch has no kernel for the two together"
    return None
