"""Linear layers of float activations with weights in float16, which the numbers here fit exactly."""

from collections.abc import Iterable
from functools import partial

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Quantized
from noisefloor_workers.conformance.operators import linear
from noisefloor_workers.conformance.operators.operator import Operator, Posed

X_SCALE, W_SCALE = 2.0**-5, 2.0**-7


def cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """The sizes of linear layers; there are no codes, and so no zero points and no granularity."""
    for batch, channels in linear.QUICK if quick else linear.QUICK + linear.FULL:
        yield Case(op=name, sizes={"batch": batch, "channels": channels}, values="full")
    yield Case(op=name, sizes={"batch": (3,), "channels": (16, 7)}, values="full", bias=False)


def pose(case: Case, *, relu: bool) -> Posed:
    """Whole steps of x [*batch, in] and w [out, in], all sums of which float32 has exactly."""
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    x = Quantized(codes=draw.integers(-128, 127, (*case.sizes["batch"], inputs)), scale=X_SCALE, zero_point=0)
    w = Quantized(codes=draw.weights((outputs, inputs)), scale=W_SCALE, zero_point=0)
    unit = linear.units(x, w)
    b = linear.bias(draw, unit, outputs)
    givens = {"x": linear.floats(x), "w": linear.floats(w), "bias": b}
    return linear.accumulated(givens, oracle.linear(x.centred, w.centred), unit, b, relu=relu)


def _operator(name: str, call: str) -> Operator:
    relu = "relu" in name
    return Operator(
        name=name,
        call=call,
        formula=f"{linear.FORMULA}.relu()" if relu else linear.FORMULA,
        cases=partial(cases, name),
        pose=partial(pose, relu=relu),
    )


OPERATORS = (
    *(
        _operator(
            f"quantized::{kind}",
            f"torch.ops.quantized.{kind}(x, torch.ops.quantized.linear_prepack_fp16(w, bias))",
        )
        for kind in ("linear_dynamic_fp16", "linear_relu_dynamic_fp16")
    ),
    _operator(
        "quantized::linear_dynamic_fp16_unpacked_weight",
        "torch.ops.quantized.linear_dynamic_fp16_unpacked_weight(x, w, bias)",
    ),
    *(
        _operator(
            f"onednn::{kind}",
            f"torch.ops.onednn.{kind}(x, torch.ops.onednn.linear_prepack_fp16(w.half(), None), bias)",
        )
        for kind in ("linear_dynamic_fp16", "linear_relu_dynamic_fp16")
    ),
)
