"""How an exception ends a cell."""

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


def ended_by(error: BaseException, *, cell: str, duration_s: float) -> CellResult:
    """The typed result of a cell that raised. A failure has an environment as a figure has."""
    if isinstance(error, Unsupported):
        status, said, trace = CellStatus.UNSUPPORTED, error.reason, None
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
