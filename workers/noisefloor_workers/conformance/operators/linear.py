"""Linear layers: static, with relu, and dynamic; and what convolutions share with them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case, Values
from noisefloor.contract.lane import QUANTIZED_ENGINES
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Givens, Quantized
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

PREPACK = "torch.ops.quantized.linear_prepack(w, bias)"
FORMULA = "torch.nn.functional.linear(x_real, w_real, bias_real)"
VALUES: tuple[Values, ...] = ("seven_bit", "ties", "full", "extreme")
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


def pose(case: Case, *, relu: bool) -> Posed:
    """Static: x [*batch, in], w [out, in]."""
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    x, w = activation(draw, (*case.sizes["batch"], inputs)), weight(draw, (outputs, inputs))
    unit = units(x, w)
    b = bias(draw, unit, outputs)
    return posed(draw, {"x": x, "w": w, "bias": b}, oracle.linear(x.centred, w.centred) * unit, b, relu=relu)


def posed(draw: Draw, givens: Givens, real: Tensor, added: Tensor | None, *, relu: bool) -> Posed:
    """Real results and the bias that broadcasts against them, requantized to fill the range of codes."""
    scale = draw.output_scale(real if added is None else real + added)
    zero_point = draw.integer(0, 255)
    return Posed(
        givens={**givens, "scale": scale, "zero_point": zero_point},
        exact=oracle.requantized(real, scale=scale, zero_point=zero_point, bias=added, relu=relu),
        step=scale,
        zero_point=zero_point,
    )


def pose_dynamic(case: Case, *, relu: bool, reduce_range: bool) -> Posed:
    """Dynamic: float x that spans exactly the range of codes, so that its scale is the one that was drawn.

    The output is float, and is held to the accumulator: a step is one of its own.
    """
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    high = 127 if reduce_range else 255
    codes = draw.integers(0, high, (*case.sizes["batch"], inputs))
    if codes.numel() == 1:
        raise InvalidCase("one number spans no range")
    codes.view(-1)[:1], codes.view(-1)[-1:] = 0, high
    x = Quantized(codes=codes, scale=draw.scale(), zero_point=draw.integer(0, high))
    w = weight(draw, (outputs, inputs))
    if not reduce_range and case.values in {"seven_bit", "ties"}:
        w = replace(w, codes=w.codes // 2)  # the activations have all 8 bits: it is the weights that have 7
    unit = units(x, w)
    b = bias(draw, unit, outputs)
    steps = oracle.linear(x.centred, w.centred) + (0 if b is None else (b / unit).round().long())
    return Posed(
        givens={"x": (x.centred * x.scales).float(), "w": w, "bias": b},
        exact=Exact(
            real=(steps.clamp(min=0) if relu else steps).double(),
            magnitude=steps.abs().double(),
            low=-math.inf,
            high=math.inf,
        ),
        step=unit,
        quantized=False,
    )


def _static(suffix: str, *, relu: bool) -> Operator:
    name = f"quantized::linear{suffix}"
    return Operator(
        name=name,
        call=f"torch.ops.quantized.linear{suffix}(x, {PREPACK}, scale, zero_point)",
        formula=f"{FORMULA}.relu()" if relu else FORMULA,
        cases=partial(cases, name),
        pose=partial(pose, relu=relu),
    )


def _dynamic(kind: str, *, relu: bool, reduce_range: bool) -> Operator:
    name = f"quantized::{kind}" + (" (reduce_range)" if reduce_range else "")
    return Operator(
        name=name,
        call=f"torch.ops.quantized.{kind}(x, {PREPACK}, {reduce_range})",
        formula=f"{FORMULA}.relu()" if relu else FORMULA,
        cases=partial(cases, name),
        pose=partial(pose_dynamic, relu=relu, reduce_range=reduce_range),
        # torch's words: "qnnpack incorrectly ignores reduce_range when it is set to true"
        engines=("onednn", "x86", "fbgemm") if reduce_range else QUANTIZED_ENGINES,
    )


OPERATORS = (
    _static("", relu=False),
    _static("_relu", relu=True),
    *(
        _dynamic(kind, relu=relu, reduce_range=reduce_range)
        for (kind, relu), reduce_range in product(
            (("linear_dynamic", False), ("linear_relu_dynamic", True)), (False, True)
        )
    ),
)
