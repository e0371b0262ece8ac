"""The operators that are held against the oracle, one module a family."""

from noisefloor_workers.conformance.operators import (
    activation,
    convolution,
    elementwise,
    embedding,
    groupwise,
    half,
    interpolation,
    linear,
    matmul,
    move,
    norm,
    pointwise,
    pooling,
    prelu,
    recurrent,
    reduction,
    scalar,
    sparse,
)
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator

FAMILIES = (
    linear,
    sparse,
    half,
    groupwise,
    matmul,
    convolution,
    pointwise,
    elementwise,
    scalar,
    activation,
    prelu,
    pooling,
    norm,
    reduction,
    interpolation,
    move,
    embedding,
    recurrent,
)
OPERATORS: dict[str, Operator] = {
    operator.name: operator for family in FAMILIES for operator in family.OPERATORS
}

__all__ = ["OPERATORS", "InvalidCase", "Operator"]
