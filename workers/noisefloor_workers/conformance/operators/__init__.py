"""The operators that are held against the oracle, one module a family."""

from noisefloor_workers.conformance.operators import (
    activation,
    convolution,
    elementwise,
    linear,
    norm,
    pooling,
)
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for family in (linear, convolution, elementwise, activation, pooling, norm)
    for operator in family.OPERATORS
}

__all__ = ["OPERATORS", "InvalidCase", "Operator"]
