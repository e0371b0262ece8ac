"""Two tensors into one: add, mul and cat, with relu or without."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

SHAPES = ((0, 3), (1,), (2, 5), (3, 33), (2, 3, 4, 5), (2, 3, 1, 1), (1, 2, 3, 4, 5), (4, 67))
BROADCAST = (((3, 33), (33,)), ((3, 33), (3, 1)), ((2, 3, 4, 5), (1, 3, 1, 1)))
Combine = Callable[[Tensor, Tensor], Tensor]


def cases(name: str, quick: bool, *, broadcast: bool = False) -> Iterable[Case]:  # noqa: FBT001
    """Shapes × values, in all layouts that a shape has; and shapes that broadcast."""
    for shape, values in product(SHAPES if quick else (*SHAPES, (8, 129), (1, 1, 1, 1)), VALUES):
        if min(shape) or values == VALUES[0]:  # nothing has no values
            yield Case(op=name, sizes={"shape": shape}, values=values)
    for shape in ((3, 33), (2, 3, 4, 5)):
        yield Case(op=name, sizes={"shape": shape}, layout="strided")
    for shape in ((2, 3, 4, 5), (1, 2, 3, 4, 5)):
        yield Case(op=name, sizes={"shape": shape}, layout="channels_last")
    for shape, b in BROADCAST if broadcast else ():
        yield Case(op=name, sizes={"shape": shape, "b": b})


def pose(case: Case, *, combine: Combine, relu: bool = False, own_scale: bool = False) -> Posed:
    """A and b, each with a scale of its own; b is of the same shape, or of one that broadcasts."""
    draw = Draw(case)
    a, b = activation(draw, case.sizes["shape"]), activation(draw, case.sizes.get("b", case.sizes["shape"]))
    values = [one.centred * one.scales for one in (a, b)]
    # float32 subtracts the zero point after it has scaled both
    terms = [(one.codes + one.zero_point) * one.scales for one in (a, b)]
    real = combine(*values)
    scale, zero_point = draw.output_scale(real), draw.integer(0, 255)
    if own_scale:
        scale, zero_point = float(a.scales), a.zero_point
    return Posed(
        givens={"a": a, "b": b, "scale": scale, "zero_point": zero_point},
        exact=Exact(
            real=real / scale + zero_point,
            magnitude=combine(*terms).abs() / scale + zero_point + 1,
            low=zero_point if relu else 0,
        ),
        step=scale,
        zero_point=zero_point,
    )


def _operator(kind: str, combine: Combine, formula: str, *, relu: bool) -> Operator:
    name = f"quantized::{kind}" + ("_relu" if relu else "")
    call = f"torch.ops.{name.replace('::', '.')}"
    arguments = "[a, b], 0, scale, zero_point" if kind == "cat" else "a, b, scale, zero_point"
    return Operator(
        name=name,
        call=f"{call}({arguments})",
        formula=f"({formula}).relu()" if relu else formula,
        cases=partial(cases, name, broadcast=kind != "cat"),
        pose=partial(pose, combine=combine, relu=relu),
    )


def _cat(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors)


KINDS: tuple[tuple[str, Combine, str], ...] = (
    ("add", torch.add, "a_real + b_real"),
    ("mul", torch.mul, "a_real * b_real"),
    ("cat", _cat, "torch.cat([a_real, b_real])"),
)
OPERATORS = (
    *(_operator(*kind, relu=relu) for kind, relu in product(KINDS, (False, True))),
    Operator(
        name="aten::cat",
        call="torch.cat([a, b])",
        formula="torch.cat([a_real, b_real])",
        cases=partial(cases, "aten::cat"),
        pose=partial(pose, combine=_cat, own_scale=True),
    ),
)
