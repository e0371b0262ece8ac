"""PReLU: a slope for each channel, itself quantized."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import product

import torch

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

FORMULA = "torch.nn.functional.prelu(x_real, w_real)"
GRID = (
    ((0,), (3,), ()),
    ((1,), (1,), (2, 3)),
    ((2,), (5,), ()),
    ((3,), (7,), (4,)),
    ((2,), (3,), (4, 5)),
    ((1,), (33,), (2, 3, 4)),
)


def cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Shapes × one slope or one a channel × values; layouts on an image."""
    del quick
    for (batch, channels, image), values, shared in product(GRID, VALUES, (False, True)):
        sizes = {"batch": batch, "channels": channels, "image": image, "slopes": (1,) if shared else channels}
        yield Case(op=name, sizes=sizes, values=values)
    usual = {"batch": (2,), "channels": (3,), "image": (4, 5), "slopes": (3,)}
    yield Case(op=name, sizes=usual, layout="strided")
    yield Case(op=name, sizes=usual, layout="channels_last")


def pose(case: Case, *, own_scale: bool) -> Posed:
    """X [batch, channels, *image], w [1] or [channels]."""
    draw, sizes = Draw(case), case.sizes
    x = activation(draw, (*sizes["batch"], *sizes["channels"], *sizes["image"]))
    slopes = sizes["slopes"] if sizes["slopes"] == sizes["channels"] else (1,)
    w = replace(activation(draw, slopes), layout="contiguous")
    values = x.centred * x.scales
    slope = (w.centred * w.scales).reshape(-1, *(1 for _ in sizes["image"]))
    real = torch.where(values > 0, values, values * slope)
    scale, zero_point = draw.output_scale(real), draw.integer(0, 255)
    if own_scale:
        scale, zero_point = float(x.scales), x.zero_point
    terms = (x.codes + x.zero_point) * x.scales * slope.abs().clamp(min=1)
    return Posed(
        givens={"x": x, "w": w, "scale": scale, "zero_point": zero_point},
        exact=Exact(real=real / scale + zero_point, magnitude=terms / scale + zero_point + 1),
        step=scale,
        zero_point=zero_point,
    )


OPERATORS = (
    Operator(
        name="quantized::prelu",
        call="torch.ops.quantized.prelu(x, w, scale, zero_point)",
        formula=FORMULA,
        cases=partial(cases, "quantized::prelu"),
        pose=partial(pose, own_scale=False),
    ),
    Operator(
        name="aten::prelu",
        call="torch.nn.functional.prelu(x, w)",
        formula=FORMULA,
        cases=partial(cases, "aten::prelu"),
        pose=partial(pose, own_scale=True),
        covers=("aten::_prelu_kernel",),
    ),
)
