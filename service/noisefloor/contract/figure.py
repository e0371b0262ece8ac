"""A figure: a number that says what kind of number it is."""

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from noisefloor.contract.base import Value


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
