"""How an exception ends a cell."""

import re
from types import FunctionType

import torch

from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult, Environment
from noisefloor_workers.flows.protocol import Unsupported
from noisefloor_workers.runner.storable import full_traceback, reason

# torch has no type for a failed allocation on the CPU: these are the words of its allocators
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "std::bad_alloc",
)

# torch's words for kernels that it does not have, and ours; its dispatcher goes on to list every back end
LACKS = (
    (
        re.compile(r"Could not run '([\w:.]+)' with arguments from the 'Quantized\w+' backend"),
        "{} is called on a quantized tensor, for which torch has no kernel",
    ),
    (
        re.compile(r"promoteTypes with quantized numbers is not handled yet()"),
        "a quantized tensor meets a float one, and torch has no kernel for the two together",
    ),
    (
        re.compile(r"(\S+) does not have a deterministic implementation"),
        "{} has no deterministic kernel on this device, and no other is measured",
    ),
)
QUANTIZED_LAYERS = "torch.ao.nn."


def ended_by(error: BaseException, *, cell: str, environment: Environment, duration_s: float) -> CellResult:
    """The typed result of a cell that raised. A failure has an environment as a figure has."""
    lack = _lack(error)
    if isinstance(error, Unsupported):
        status, said, trace = CellStatus.UNSUPPORTED, error.reason, None
    elif lack is not None:
        status, trace = CellStatus.UNSUPPORTED, full_traceback(error)
        said = ": ".join([*getattr(error, "__notes__", ()), lack])
    else:
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and any(word in str(error) for word in OUT_OF_MEMORY_WORDS)
        )
        status = CellStatus.OUT_OF_MEMORY if out_of_memory else CellStatus.FAILED
        said, trace = reason(error), full_traceback(error)
    return CellResult(
        cell=cell,
        status=status,
        reason=said,
        traceback=trace,
        environment=environment,
        duration_s=duration_s,
    )


def _lack(error: BaseException) -> str | None:
    """What torch lacks for this cell, if that is what was raised."""
    if isinstance(error, AttributeError):
        return _of_packed(error)
    if not isinstance(error, RuntimeError):
        return None
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the exception may be a model's own
        return None
    found = ((pattern.match(message), said) for pattern, said in LACKS)
    return next((said.format(match[1]) for match, said in found if match is not None), None)


def _of_packed(error: AttributeError) -> str | None:
    """What a model reads of a quantized layer's packed parameter: torch has a method in its place."""
    read = error.obj
    if not isinstance(read, FunctionType) or not read.__module__.startswith(QUANTIZED_LAYERS):
        return None
    layer, _, parameter = read.__qualname__.rpartition(".")
    return (
        f"the model reads {parameter}.{error.name} of a quantized {layer}, which keeps its {parameter} packed"
    )
