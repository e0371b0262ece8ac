"""What an operator is to the suite."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor.contract.lane import QUANTIZED_ENGINES, Engine
from noisefloor_workers.conformance.given import Givens, evaluate, reals, tensors
from noisefloor_workers.conformance.oracle import Exact

# a quantized tensor; codes without scale and zero point; floats
Form = Literal["quantized", "codes", "floats"]


class InvalidCase(Exception):  # noqa: N818 - an answer, not a fault
    """The sizes do not make a call, as a kernel that is larger than its image."""


@dataclass(frozen=True, kw_only=True)
class Posed:
    """A case worked out: what the kernel is given, and what must come out.

    One step of the output is worth `step`, a number or a float64 tensor that broadcasts against it. A
    quantized output has `step` and `zero_point`.
    """

    givens: Givens
    exact: Exact
    step: Tensor | float
    zero_point: int = 0
    form: Form = "quantized"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A quantized operator of torch: how it is called, on what, and what must come out.

    `call` is a Python expression on the names of the givens; `formula` is the same in float64, on the names
    with `_real`, and gives real values: it checks the oracle, and is what a script compares with. `prelude`
    defines functions that they use. `covers` are the names of the registry that the call reaches, where they
    are not the operator's own. `bound_lsb` is for what is not defined to the code: how far beyond rounding it
    may be, in steps.
    """

    name: str
    call: str
    formula: str
    cases: Callable[[bool], Iterable[Case]]
    pose: Callable[[Case], Posed]
    engines: tuple[Engine, ...] = QUANTIZED_ENGINES
    bound_lsb: float = 0.0
    prelude: str = ""
    covers: tuple[str, ...] = ()

    @property
    def registered(self) -> tuple[str, ...]:
        """The registered operators that this holds."""
        return self.covers or (self.name.partition(" ")[0],)

    def run(self, givens: Givens) -> Tensor:
        """Torch's kernel on these; a RuntimeError where it refuses."""
        return evaluate(self.call, tensors(givens), prelude=self.prelude)

    def real(self, givens: Givens) -> Tensor:
        """The formula's value, float64."""
        return evaluate(self.formula, reals(givens), prelude=self.prelude)
