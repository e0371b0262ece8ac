"""A quantized tensor plus or times a number: the scale of the output follows from both.

A sum keeps the scale and moves the zero point; where that leaves the range, the scale is stretched. A product
has the scale times the number, and mirrors the codes if that is negative. The rules are stated beside the
kernels, in torch's BinaryOps.cpp and qmul.cpp.
"""

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Literal

import torch

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Quantized
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

HIGHEST = 255
SHAPES = ((0, 3), (1,), (3, 33), (2, 3, 4, 5), (4, 67))
Kind = Literal["add", "mul"]


def cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Shapes × values × a number small, large and of either sign, by the seed."""
    for shape, values, seed in product(SHAPES, VALUES, range(4 if quick else 12)):
        yield Case(op=name, sizes={"shape": shape}, values=values, seed=seed)
    yield Case(op=name, sizes={"shape": (2, 3, 4, 5)}, layout="strided")
    yield Case(op=name, sizes={"shape": (2, 3, 4, 5)}, layout="channels_last")


def pose(case: Case, *, kind: Kind, relu: bool) -> Posed:
    """X [*shape], and a whole number of its steps to add, or of sixteenths to multiply with."""
    draw = Draw(case)
    x = activation(draw, case.sizes["shape"])
    most = (8, 300)[case.seed // 2 % 2]
    whole = draw.integer(1, most) * (-1) ** (case.seed % 2)
    if kind == "add":
        number = whole * float(x.scales)
        step, zero_point = _moved(x, whole)
        real = (x.centred + whole) * x.scales
    else:
        number = whole / 16
        step, zero_point = (
            float(x.scales) * abs(number),
            x.zero_point if whole > 0 else HIGHEST - x.zero_point,
        )
        real = x.centred * x.scales * number
    if relu:
        real = real.clamp(min=0)
    exact = Exact(real=real / step + zero_point, magnitude=torch.full(real.shape, 1024.0))
    return Posed(givens={"x": x, "number": number}, exact=exact, step=step, zero_point=zero_point)


def _moved(x: Quantized, whole: int) -> tuple[float, int]:
    """The scale and the zero point of a sum."""
    zero_point, scale = x.zero_point - whole, float(x.scales)
    if zero_point < 0:
        return (HIGHEST - zero_point) / HIGHEST * scale, 0
    if zero_point > HIGHEST:
        return zero_point / HIGHEST * scale, HIGHEST
    return scale, zero_point


def _operator(kind: Kind, *, relu: bool) -> Operator:
    name = f"quantized::{kind}_scalar" + ("_relu" if relu else "")
    sign = "+" if kind == "add" else "*"
    formula = f"(x_real {sign} number)"
    return Operator(
        name=name,
        call=f"torch.ops.{name.replace('::', '.')}(x, number)",
        formula=f"{formula}.relu()" if relu else formula,
        cases=partial(cases, name),
        pose=partial(pose, kind=kind, relu=relu),
    )


KINDS: tuple[Kind, ...] = ("add", "mul")
OPERATORS = tuple(_operator(kind, relu=relu) for kind, relu in product(KINDS, (False, True)))
