"""Linear layers: static, with what may be fused, and dynamic; and what convolutions share with them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case, Values
from noisefloor.contract.lane import QUANTIZED_ENGINES, Engine
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Givens, Quantized
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

PREPACK = "torch.ops.quantized.linear_prepack(w, bias)"
FORMULA = "torch.nn.functional.linear(x_real, w_real, bias_real)"
# torch's words: "qnnpack incorrectly ignores reduce_range when it is set to true"
REDUCING: tuple[Engine, ...] = ("onednn", "x86", "fbgemm")
VALUES: tuple[Values, ...] = ("seven_bit", "ties", "full", "extreme")
Curve = Callable[[Tensor], Tensor]
# A curve is computed in float32 or through a table of its own making: a step beside rounding is allowed
BOUND_LSB = 1.0
QUICK = (((0,), (3, 2)), ((1,), (1, 1)), ((1,), (2, 5)), ((3,), (16, 7)), ((5,), (67, 33)), ((2, 3), (8, 4)))
FULL = (((1,), (512, 10)), ((2,), (129, 64)), ((64,), (31, 65)), ((0,), (1, 1)), ((7,), (1, 9)))


def cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Sizes × values × granularity, and on one size each layout, no bias, a weight with a zero point."""
    sizes = QUICK if quick else QUICK + FULL
    for (batch, channels), values, per_channel in product(sizes, VALUES, (False, True)):
        named = {"batch": batch, "channels": channels}
        yield Case(op=name, sizes=named, values=values, per_channel=per_channel)
    usual = Case(op=name, sizes={"batch": (3,), "channels": (16, 7)}, seed=1)
    yield usual.replace(layout="strided")
    yield usual.replace(bias=False)
    yield usual.replace(weight_zero_point=3)


def weight(draw: Draw, shape: Sequence[int], *, axis: int = 0) -> Quantized:
    """A weight in eight bits, per tensor or per channel of `axis`."""
    scale = tuple(draw.scale() for _ in range(shape[axis])) if draw.case.per_channel else draw.scale()
    codes, zero_point = draw.weights(shape), draw.case.weight_zero_point
    return Quantized(codes=codes, scale=scale, zero_point=zero_point, axis=axis, dtype=torch.qint8)


def activation(draw: Draw, shape: Sequence[int]) -> Quantized:
    codes, scale, zero_point = draw.activations(shape), draw.scale(), draw.zero_point()
    return Quantized(codes=codes, scale=scale, zero_point=zero_point, layout=draw.case.layout)


def units(x: Quantized, w: Quantized) -> Tensor:
    """What one step of the accumulator is worth: float64, a scalar or one a channel."""
    return x.scales * w.scales.flatten() if isinstance(w.scale, tuple) else x.scales * w.scales


def bias(draw: Draw, unit: Tensor, channels: int) -> Tensor | None:
    """A whole number of the accumulator's steps for each channel, exact in float32; [channels]."""
    return (draw.bias_steps(channels) * unit).float() if draw.case.bias else None


def pose(case: Case, *, relu: bool = False, curve: Curve | None = None) -> Posed:
    """Static: x [*batch, in], w [out, in]."""
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    x, w = activation(draw, (*case.sizes["batch"], inputs)), weight(draw, (outputs, inputs))
    unit = units(x, w)
    b = bias(draw, unit, outputs)
    real = oracle.linear(x.centred, w.centred) * unit
    return posed(draw, {"x": x, "w": w, "bias": b}, real, b, relu=relu, curve=curve)


def posed(
    draw: Draw,
    givens: Givens,
    real: Tensor,
    added: Tensor | None,
    *,
    relu: bool = False,
    curve: Curve | None = None,
) -> Posed:
    """Real results and what is added to them, requantized to fill the range of codes.

    A curve is fused behind them; it is nowhere steeper than 1, so that float32 moves its result no further.
    """
    total = real if added is None else real + added
    scale = draw.output_scale(total if curve is None else curve(total))
    zero_point = draw.integer(0, 255)
    exact = oracle.requantized(real, scale=scale, zero_point=zero_point, bias=added, relu=relu)
    if curve is not None:
        exact = replace(exact, real=curve(total) / scale + zero_point)
    return Posed(
        givens={**givens, "scale": scale, "zero_point": zero_point},
        exact=exact,
        step=scale,
        zero_point=zero_point,
    )


def pose_dynamic(case: Case, *, relu: bool, reduce_range: bool) -> Posed:
    """Dynamic: float x [*batch, in]; w [out, in]."""
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    x = spanning(draw, (*case.sizes["batch"], inputs), reduce_range=reduce_range)
    w = weight_under(draw, weight(draw, (outputs, inputs)), reduce_range=reduce_range)
    unit = units(x, w)
    b = bias(draw, unit, outputs)
    givens: Givens = {"x": floats(x), "w": w, "bias": b}
    return accumulated(givens, oracle.linear(x.centred, w.centred), unit, b, relu=relu)


def pose_given_scale(case: Case, *, relu: bool) -> Posed:
    """Float x, with the scale and the zero point that it is to be quantized with."""
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    x, w = activation(draw, (*case.sizes["batch"], inputs)), weight(draw, (outputs, inputs))
    unit = units(x, w)
    b = bias(draw, unit, outputs)
    givens: Givens = {
        "x": floats(x),
        "x_scale": float(x.scales),
        "x_zero": x.zero_point,
        "w": w,
        "bias": b,
    }
    return accumulated(givens, oracle.linear(x.centred, w.centred), unit, b, relu=relu)


def spanning(draw: Draw, shape: Sequence[int], *, reduce_range: bool) -> Quantized:
    """Codes from end to end of the range, so that dynamic quantization finds the scale that was drawn."""
    high = 127 if reduce_range else 255
    codes = draw.integers(0, high, shape)
    if codes.numel() == 1:
        raise InvalidCase("one number spans no range")
    codes.view(-1)[:1], codes.view(-1)[-1:] = 0, high
    return Quantized(codes=codes, scale=draw.scale(), zero_point=draw.integer(0, high))


def floats(x: Quantized) -> Tensor:
    """What these codes stand for, float32, where it is exact."""
    return (x.centred * x.scales).float()


def weight_under(draw: Draw, w: Quantized, *, reduce_range: bool) -> Quantized:
    """Where the activations have all 8 bits, it is the weights that have 7 in gentle cases."""
    gentle = not reduce_range and draw.case.values in {"seven_bit", "ties"}
    return replace(w, codes=w.codes // 2) if gentle else w


def accumulated(
    givens: Givens, steps: Tensor, unit: Tensor, b: Tensor | None, *, relu: bool, axis: int = -1
) -> Posed:
    """A float output, held to the accumulator: a step is one of its own. Channels lie along `axis`."""
    across = [-1 if dim == axis % steps.dim() else 1 for dim in range(steps.dim())]
    step = unit.reshape(across) if unit.dim() else unit
    steps = steps + (0 if b is None else (b.reshape(across) / step).round().long())
    return Posed(
        givens=givens,
        exact=Exact(
            real=(steps.clamp(min=0) if relu else steps).double(),
            magnitude=steps.abs().double(),
            low=-math.inf,
            high=math.inf,
        ),
        step=step,
        form="floats",
    )


def _static(suffix: str, formula: str, *, arguments: str = "", curve: Curve | None = None) -> Operator:
    name = f"quantized::linear{suffix}"
    return Operator(
        name=name,
        call=f"torch.ops.quantized.linear{suffix}(x, {PREPACK}, scale, zero_point{arguments})",
        formula=formula,
        cases=partial(cases, name),
        pose=partial(pose, relu=suffix == "_relu", curve=curve),
        bound_lsb=BOUND_LSB if suffix == "_tanh" else 0.0,
    )


def _dynamic(kind: str, *, relu: bool, reduce_range: bool) -> Operator:
    name = f"quantized::{kind}" + (" (reduce_range)" if reduce_range else "")
    return Operator(
        name=name,
        call=f"torch.ops.quantized.{kind}(x, {PREPACK}, {reduce_range})",
        formula=f"{FORMULA}.relu()" if relu else FORMULA,
        cases=partial(cases, name),
        pose=partial(pose_dynamic, relu=relu, reduce_range=reduce_range),
        engines=REDUCING if reduce_range else QUANTIZED_ENGINES,
    )


def _given_scale(kind: str, *, relu: bool) -> Operator:
    name = f"quantized::{kind}"
    return Operator(
        name=name,
        call=f"torch.ops.quantized.{kind}(x, x_scale, x_zero, {PREPACK})",
        formula=f"{FORMULA}.relu()" if relu else FORMULA,
        cases=partial(cases, name),
        pose=partial(pose_given_scale, relu=relu),
    )


def leaky(x: Tensor) -> Tensor:
    """A leaky relu whose slope is exact."""
    return torch.where(x > 0, x, x * 0.125)


def tanh(x: Tensor) -> Tensor:
    """Tanh from the exponential."""
    return 1 - 2 / (1 + (2 * x).exp())


OPERATORS = (
    _static("", FORMULA),
    _static("_relu", f"{FORMULA}.relu()"),
    _static(
        "_leaky_relu",
        f"torch.nn.functional.leaky_relu({FORMULA}, 0.125)",
        arguments=", 0.125",
        curve=leaky,
    ),
    _static("_tanh", f"{FORMULA}.tanh()", curve=tanh),
    *(
        _dynamic(kind, relu=relu, reduce_range=reduce_range)
        for (kind, relu), reduce_range in product(
            (("linear_dynamic", False), ("linear_relu_dynamic", True)), (False, True)
        )
    ),
    _given_scale("linear_with_input_q_dq_qweight_dq_output_fp32", relu=False),
    _given_scale("linear_with_input_q_dq_qweight_dq_relu_output_fp32", relu=True),
)
