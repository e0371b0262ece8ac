"""What `noisefloor conformance` answers: which quantized kernels of torch compute what they should."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from noisefloor.contract.base import LongText, Text, Untrue, Value
from noisefloor.contract.figure import MAX_DB
from noisefloor.contract.lane import Engine, Isa

Size = Annotated[int, Field(ge=0, le=65_536)]
Values = Literal["seven_bit", "ties", "full", "extreme"]
Layout = Literal["contiguous", "strided", "channels_last"]


class Verdict(StrEnum):
    """How a kernel compares with the oracle, from good to bad."""

    UNSUPPORTED = "unsupported"
    EXACT = "exact"
    WITHIN_1_LSB = "within_1_lsb"
    WRONG = "wrong"
    NONDETERMINISTIC = "nondeterministic"
    CRASHES = "crashes"

    @property
    def is_fault(self) -> bool:
        """Whether the kernel is to blame."""
        return self in {Verdict.WRONG, Verdict.NONDETERMINISTIC, Verdict.CRASHES}


class Case(Value):
    """One call of an operator: all that it is given follows from this.

    `values` says what the codes are: `seven_bit` uses 7 of the 8 bits of activations, `ties` too, with scales
    that are powers of two, so that results lie halfway between codes; `full` uses all bits, `extreme` only
    the ends of the range.
    """

    op: Text
    sizes: dict[Text, tuple[Size, ...]] = Field(description="lengths by name; what shrinking makes smaller")
    values: Values = "seven_bit"
    layout: Layout = "contiguous"
    per_channel: bool = False
    bias: bool = True
    weight_zero_point: Annotated[int, Field(ge=-128, le=127)] = 0
    seed: Annotated[int, Field(ge=0)] = 0


class Outcome(Value):
    """What became of one case on one engine. The squares are of real values, for the ratio over all cases."""

    verdict: Verdict
    elements: int = 0
    wrong_elements: int = 0
    max_lsb: int = Field(default=0, description="largest |code - expected code|")
    sqnr_db: float | None = Field(default=None, description="null where nothing differs, or all is zero")
    reason: LongText | None = None


class Conformance(Value):
    """One operator on one engine under one ISA cap."""

    op: Text
    engine: Engine
    isa: Isa
    verdict: Verdict
    cases: int
    wrong_cases: int = Field(default=0, description="wrong, not deterministic, or crashing")
    unsupported_cases: int = 0
    worst_db: float | None = Field(default=None, description="lowest SQNR of a wrong case, dB")
    max_lsb: int = 0
    wrong_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="of the elements of the cases that ran"
    )
    reason: LongText | None = None
    case: Case | None = Field(default=None, description="the smallest case that was found to fail")
    script: LongText | None = Field(default=None, description="shows the fault; needs torch alone")
    values: tuple[Values, ...] = Field(default=(), description="of the cases that are at fault")
    known: LongText | None = Field(
        default=None, description="why the fault is accepted; null where it is new"
    )
    gone: LongText | None = Field(
        default=None, description="the known issue that says it is at fault, though it is not any more"
    )

    def untrue(self) -> Iterator[Untrue]:
        """What the suite does not find."""
        for name in ("cases", "wrong_cases", "unsupported_cases", "max_lsb"):
            if getattr(self, name) < 0:
                yield Untrue(name, "counts are no less than zero", getattr(self, name))
        for name in ("wrong_cases", "unsupported_cases"):
            if getattr(self, name) > self.cases:
                yield Untrue(name, f"there are {self.cases} cases", getattr(self, name))
        if self.wrong_cases and not self.verdict.is_fault:
            yield Untrue("wrong_cases", f"the verdict is {self.verdict}", self.wrong_cases, ["0"])
        if self.worst_db is not None and abs(self.worst_db) > MAX_DB:
            yield Untrue("worst_db", "no ratio is that many dB", self.worst_db, [f"within ±{MAX_DB:g}"])

    @property
    def is_new_fault(self) -> bool:
        """Whether a gate fails."""
        return self.verdict.is_fault and self.known is None

    @property
    def summary(self) -> str:
        """The verdict and its figures, in a line.

        >>> Conformance(op="aten::relu", engine="x86", isa="native", verdict="exact", cases=9).summary
        'exact in 9 cases'
        """
        if not self.verdict.is_fault:
            return f"{self.verdict} in {self.cases} cases" if self.cases else self.verdict.value
        db = "" if self.worst_db is None else f", down to {self.worst_db:.1f} dB"
        return (
            f"{self.verdict} in {self.wrong_cases} of {self.cases} cases, {self.wrong_share:.1%} of the "
            f"elements, up to {self.max_lsb} LSB{db}"
        )


CONFORMANCE: TypeAdapter[list[Conformance]] = TypeAdapter(list[Conformance])
