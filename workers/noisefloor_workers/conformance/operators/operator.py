"""What an operator is to the suite."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor.contract.lane import QUANTIZED_ENGINES, Engine
from noisefloor_workers.conformance.given import Givens, evaluate, tensors
from noisefloor_workers.conformance.oracle import Exact


class InvalidCase(Exception):  # noqa: N818 - an answer, not a fault
    """The sizes do not make a call, as a kernel that is larger than its image."""


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A case worked out: what the kernel is given, and what must come out.

    One step of the output is worth `step`, a number or a float64 tensor that broadcasts against it. The
    output is quantized with `step` and `zero_point`, or is of floats.
    """

    givens: Givens
    exact: Exact
    step: Tensor | float
    zero_point: int = 0
    quantized: bool = True


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A quantized operator of torch: how it is called, on what, and what must come out.

    `call` is a Python expression on the names of the givens; `formula` is the same in float64, on the names
    with `_real`, and gives real values: it checks the oracle, and is what a script compares with.
    `bound_lsb` is for what is not defined to the code: how far beyond rounding it may be, in steps.
    """

    name: str
    call: str
    formula: str
    cases: Callable[[bool], Iterable[Case]]
    pose: Callable[[Case], Posed]
    engines: tuple[Engine, ...] = QUANTIZED_ENGINES
    bound_lsb: float = 0.0

    def run(self, givens: Givens) -> Tensor:
        """Torch's kernel on these; a RuntimeError where it refuses."""
        return evaluate(self.call, tensors(givens))
