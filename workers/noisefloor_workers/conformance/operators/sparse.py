"""Linear layers whose weights have blocks of zeros: static on FBGEMM, dynamic on QNNPACK."""

from dataclasses import replace
from functools import partial

from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Givens
from noisefloor_workers.conformance.operators import linear
from noisefloor_workers.conformance.operators.operator import Operator, Posed

BLOCK = (1, 4)
PREPACK = f"torch.ops.sparse.qlinear_prepack(w, bias, {BLOCK[0]}, {BLOCK[1]})"


def pose(case: Case, *, dynamic: bool, relu: bool) -> Posed:
    """X [*batch, in], w [out, in] with about half of its blocks of zeros."""
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    shape = (*case.sizes["batch"], inputs)
    x = linear.spanning(draw, shape, reduce_range=False) if dynamic else linear.activation(draw, shape)
    w = linear.weight(draw, (outputs, inputs))
    if dynamic:
        w = linear.weight_under(draw, w, reduce_range=False)
    kept = _kept(draw, outputs, inputs)
    w = replace(w, codes=w.codes * kept + w.zero_point * (1 - kept))
    unit = linear.units(x, w)
    b = linear.bias(draw, unit, outputs)
    steps = oracle.linear(x.centred, w.centred)
    if dynamic:
        givens: Givens = {"x": linear.floats(x), "w": w, "bias": b}
        return linear.accumulated(givens, steps, unit, b, relu=relu)
    return linear.posed(draw, {"x": x, "w": w, "bias": b}, steps * unit, b, relu=relu)


def _kept(draw: Draw, outputs: int, inputs: int) -> Tensor:
    """One for each weight of a block that is kept, else zero; int64 [out, in]."""
    blocks = draw.integers(0, 1, (outputs, -(-inputs // BLOCK[1])))
    return blocks.repeat_interleave(BLOCK[1], 1)[:, :inputs]


def _operator(kind: str, *, dynamic: bool) -> Operator:
    relu = "relu" in kind
    name = f"sparse::{kind}"
    arguments = "" if dynamic else ", scale, zero_point"
    return Operator(
        name=name,
        call=f"torch.ops.sparse.{kind}(x, {PREPACK}{arguments})",
        formula=f"{linear.FORMULA}.relu()" if relu else linear.FORMULA,
        cases=partial(linear.cases, name),
        pose=partial(pose, dynamic=dynamic, relu=relu),
    )


OPERATORS = (
    *(_operator(kind, dynamic=False) for kind in ("qlinear", "qlinear_relu")),
    *(_operator(kind, dynamic=True) for kind in ("qlinear_dynamic", "qlinear_relu_dynamic")),
)
