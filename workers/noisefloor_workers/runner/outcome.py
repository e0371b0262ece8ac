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

# torch's dispatcher says so, and then lists every back end that there is
NO_QUANTIZED_KERNEL = re.compile(r"Could not run '([\w:.]+)' with arguments from the 'Quantized\w+' backend")


def ended_by(error: BaseException, *, cell: str, duration_s: float) -> CellResult:
    """The typed result of a cell that raised. A failure has an environment as a figure has."""
    missing = NO_QUANTIZED_KERNEL.match(str(error)) if isinstance(error, NotImplementedError) else None
    if isinstance(error, Unsupported):
        status, said, trace = CellStatus.UNSUPPORTED, error.reason, None
    elif missing is not None:
        status, trace = CellStatus.UNSUPPORTED, full_traceback(error)
        lack = f"{missing[1]} is called on a quantized tensor, for which torch has no kernel"
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
