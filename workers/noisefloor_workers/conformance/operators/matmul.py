"""The product of two quantized matrices, or of stacks of them."""

from collections.abc import Iterable
from itertools import product

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators.linear import VALUES, activation, posed
from noisefloor_workers.conformance.operators.operator import Operator, Posed

NAME = "quantized::matmul"
SIZES = (
    ((), (1, 1, 1)),
    ((), (3, 5, 2)),
    ((), (17, 33, 9)),
    ((0,), (2, 3, 2)),
    ((1,), (2, 3, 2)),
    ((2,), (4, 8, 5)),
    ((2, 3), (3, 16, 4)),
)
LARGER = (((), (64, 128, 65)), ((4,), (1, 65, 31)))


def cases(quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Stacks × lengths × values; one that is strided."""
    for (batch, lengths), values in product(SIZES if quick else SIZES + LARGER, VALUES):
        yield Case(op=NAME, sizes={"batch": batch, "lengths": lengths}, values=values)
    yield Case(op=NAME, sizes={"batch": (2,), "lengths": (4, 8, 5)}, layout="strided")
    yield Case(op=NAME, sizes={"batch": (2, 3), "lengths": (3, 16, 4)}, layout="channels_last")


def pose(case: Case) -> Posed:
    """A [*batch, rows, inner] by b [*batch, inner, columns]."""
    draw, batch = Draw(case), case.sizes["batch"]
    rows, inner, columns = case.sizes["lengths"]
    a, b = activation(draw, (*batch, rows, inner)), activation(draw, (*batch, inner, columns))
    return posed(draw, {"a": a, "b": b}, (a.centred @ b.centred) * (a.scales * b.scales), None)


OPERATORS = (
    Operator(
        name=NAME,
        call="torch.ops.quantized.matmul(a, b, scale, zero_point)",
        formula="a_real @ b_real",
        cases=cases,
        pose=pose,
    ),
)
