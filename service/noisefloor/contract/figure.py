"""A figure: a number that says what kind of number it is."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Self

from pydantic import model_validator

from noisefloor.contract.base import Untrue, Value

# Float32 squared ends at 1e77; 1e100 squared, and added up over any history, is far below float64's end.
MAX_FIGURE = 1e100
# The largest float64 over the smallest is 12,640 dB.
MAX_DB = 20_000.0


class FigureKind(StrEnum):
    """Why a figure has a value, or why it has none."""

    FINITE = "finite"
    EXACT = "exact"
    ZERO_REF = "zero_ref"
    NONFINITE = "nonfinite"
    NOT_APPLICABLE = "not_applicable"
    MISMATCH = "mismatch"


class Figure(Value):
    """A value with its kind. A number stands only beside `finite`, so NaN and infinity never leave.

    >>> Figure.finite(41.5).value
    41.5
    >>> str(Figure.of(FigureKind.EXACT))
    'exact'
    """

    value: float | None = None
    kind: FigureKind

    @model_validator(mode="after")
    def _value_stands_beside_finite_only(self) -> Self:
        if (self.value is not None) != (self.kind is FigureKind.FINITE):
            raise ValueError("a value belongs to kind 'finite' and to no other")
        return self

    @classmethod
    def finite(cls, value: float) -> "Figure":
        """A figure with a number."""
        return cls(value=value, kind=FigureKind.FINITE)

    @classmethod
    def of(cls, kind: FigureKind) -> "Figure":
        """A figure that is not a number."""
        return cls(kind=kind)

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.value is not None else self.kind.value


def within(value: float) -> float:
    """The value, or the end of the range of figures that it is beyond: older versions kept any number.

    >>> within(41.5), within(-1e300)
    (41.5, -1e+100)
    """
    return max(-MAX_FIGURE, min(MAX_FIGURE, value))


def beyond(value: object, most: float, at: str) -> Iterator[Untrue]:
    """The figures inside a value that are beyond ±most.

    >>> [one.field for one in beyond((Figure.finite(1.0), Figure.finite(9e9)), 1e3, "layers")]
    ['layers.1.value']
    """
    if isinstance(value, Figure):
        if value.value is not None and abs(value.value) > most:
            yield Untrue(f"{at}.value", "no figure is that large", value.value, [f"within ±{most:g}"])
    elif isinstance(value, Value):
        for name, inner in value:
            yield from beyond(inner, most, f"{at}.{name}")
    elif isinstance(value, tuple):
        for number, inner in enumerate(value):
            yield from beyond(inner, most, f"{at}.{number}")
