"""A product of float activations with weights of 4 bits, which have a scale and a zero for each group."""

from collections.abc import Iterable
from itertools import product

import torch

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

NAME = "quantized::int4mm_packed_weight_cpu"
HALF_RANGE = 8
# x is in eighths, scales and zeros in these: all sums fit float32
X_UNIT, UNIT = 2.0**-3, 2.0**-9
ROWS_AT_ONCE = 16
WEIGHT = (
    "((codes - 8).unflatten(1, (-1, group)) * scale_and_zero_real[..., 0].T[:, :, None] "
    "+ scale_and_zero_real[..., 1].T[:, :, None]).flatten(1)"
)


def cases(quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Rows × lengths × groups."""
    rows = ((0,), (1,), (5,)) if quick else ((0,), (1,), (4,), (5,), (33,))
    for batch, channels, group in product(rows, ((64, 16), (128, 48)), ((32,), (64,))):
        for values in ("full", "extreme"):
            sizes = {"batch": batch, "channels": channels, "group": group}
            yield Case.model_validate({"op": NAME, "sizes": sizes, "values": values})


def pose(case: Case) -> Posed:
    """X [batch, in], codes [out, in], scale and zero [in / group, out, 2]."""
    draw, sizes = Draw(case), case.sizes
    ((batch,), (group,)), (inputs, outputs) = (sizes["batch"], sizes["group"]), sizes["channels"]
    if group < 2 * ROWS_AT_ONCE or inputs % group or outputs % ROWS_AT_ONCE:
        raise InvalidCase("the kernel takes whole groups, and 16 outputs at once")
    highest = 2 * HALF_RANGE - 1
    codes = draw.integers(0, highest, (outputs, inputs))
    if case.values == "extreme":
        codes = codes // HALF_RANGE * highest
    x = draw.integers(-HALF_RANGE, HALF_RANGE - 1, (batch, inputs))
    groups = (inputs // group, outputs)
    scale, zero = draw.integers(32, 63, groups), draw.integers(-64, 64, groups)
    each = (scale.repeat_interleave(group, 0), zero.repeat_interleave(group, 0))
    real = (x @ ((codes - HALF_RANGE).T * each[0] + each[1])).double()
    return Posed(
        givens={
            "x": (x * X_UNIT).float(),
            "codes": codes,
            "group": group,
            "scale_and_zero": (torch.stack([scale, zero], -1) * UNIT).float(),
        },
        exact=Exact(real=real, magnitude=real.abs(), low=-torch.inf, high=torch.inf),
        step=X_UNIT * UNIT,
        form="floats",
    )


OPERATORS = (
    Operator(
        name=NAME,
        call=(
            "torch.ops.quantized.int4mm_packed_weight_cpu(x, "
            "torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 2), "
            "torch.tensor(group), scale_and_zero)"
        ),
        formula=f"x_real @ ({WEIGHT}).T",
        cases=cases,
        pose=pose,
    ),
)
