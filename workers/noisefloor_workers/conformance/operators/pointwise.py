"""What inductor calls for a quantized model that was exported: codes as plain integers, on oneDNN alone."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from noisefloor.contract.conformance import Case
from noisefloor.contract.lane import Engine
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Given, Givens, Quantized
from noisefloor_workers.conformance.operators import convolution, elementwise, linear, norm
from noisefloor_workers.conformance.operators.elementwise import Combine
from noisefloor_workers.conformance.operators.linear import activation, bias, posed, units, weight
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed

ENGINES: tuple[Engine, ...] = ("onednn",)
Output = Literal["uint8", "float32"]
X = "x, x_scale, x_zero"
W = "w_scale, w_zero"


def linear_cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Those of linear layers, with weights that are symmetric."""
    return (case for case in linear.cases(name, quick) if not case.weight_zero_point)


def convolution_cases(
    name: str,
    quick: bool,  # noqa: FBT001 - as an operator's `cases`
    *,
    dims: int,
    empty: bool | None = None,
) -> Iterable[Case]:
    """Those of convolutions, with weights that are symmetric.

    Without empty batches, or with them and gentle values, where a kernel has a fault in those alone.
    """
    found = convolution.cases(name, quick, dims=dims, transposed=False)
    symmetric = (case for case in found if not case.weight_zero_point)
    if empty is None:
        return symmetric
    if empty:
        return (case for case in symmetric if case.values == "seven_bit")
    return (case for case in symmetric if case.sizes["batch"] != (0,))


def elementwise_cases(name: str, quick: bool, *, strided: bool) -> Iterable[Case]:  # noqa: FBT001
    """Those of two tensors, of which each is strided, or none is."""
    found = elementwise.cases(name, quick)
    return (case for case in found if (case.layout == "strided") == strided)


def pose_linear(case: Case, *, relu: bool, binary: str, output: Output) -> Posed:
    """X [*batch, in], w [out, in]; what is added has the shape of the output: codes to a sum, else floats."""
    draw = Draw(case)
    inputs, outputs = case.sizes["channels"]
    x, w = activation(draw, (*case.sizes["batch"], inputs)), weight(draw, (outputs, inputs))
    unit = units(x, w)
    b = bias(draw, unit, outputs)
    steps = oracle.linear(x.centred, w.centred)
    givens: dict[str, Given] = {**_plain("x", x), **_weight(w, outputs), "bias": b}
    if output == "float32":
        return linear.accumulated(givens, steps, unit, b, relu=relu)
    added = None if b is None else b.double()
    if binary:
        summed = activation(draw, steps.shape)
        givens |= _plain("added", summed) if binary == "sum" else {"added": linear.floats(summed)}
        values = summed.centred * summed.scales
        added = values if added is None else added + values
    return _codes(posed(draw, givens, steps * unit, added, relu=relu))


def pose_convolution(case: Case, *, relu: bool, add: bool) -> Posed:
    """X [batch, in, *image]; w [out, in / groups, *kernel]; `added` as the output, in channels last."""
    found = convolution.pose(case, relu=relu, add=add)
    w = _quantized(found, "w")
    givens: dict[str, Given] = {
        **found.givens,
        **_plain("x", _quantized(found, "x")),
        **_weight(w, len(w.codes)),
    }
    if add:
        givens |= _plain("added", replace(_quantized(found, "added"), layout="channels_last"))
    return _codes(replace(found, givens=givens))


def pose_elementwise(case: Case, *, combine: Combine, relu: bool) -> Posed:
    """A and b of one shape."""
    found = elementwise.pose(case, combine=combine, relu=relu)
    two = {**_plain("a", _quantized(found, "a")), **_plain("b", _quantized(found, "b"))}
    return _codes(replace(found, givens={**found.givens, **two}))


def pose_batch_norm(case: Case) -> Posed:
    """X [batch, channels, height, width]."""
    found = norm.pose(case, kind="batch", relu=False)
    return _codes(replace(found, givens={**found.givens, **_plain("x", _quantized(found, "x"))}))


def _codes(found: Posed) -> Posed:
    return replace(found, form="codes")


def _quantized(found: Posed, name: str) -> Quantized:
    given = found.givens[name]
    if not isinstance(given, Quantized):
        raise TypeError(f"{name} is no quantized tensor")
    return given


def _plain(name: str, given: Quantized) -> Givens:
    """The tensor as integers, with its scale and zero point beside it."""
    return {
        name: replace(given, plain=True),
        f"{name}_scale": float(given.scales),
        f"{name}_zero": given.zero_point,
    }


def _weight(w: Quantized, outputs: int) -> Givens:
    """The same for a weight: these are tensors, and one scale for all channels is one element."""
    if w.zero_point:
        raise InvalidCase("the weights are symmetric")
    scales = w.scales.flatten().float()
    return {
        "w": replace(w, plain=True),
        "w_scale": scales,
        "w_zero": torch.zeros(outputs if len(scales) > 1 else 1, dtype=torch.int64),
    }


def _linear(suffix: str, *, relu: bool = False, binary: str = "", output: Output = "uint8") -> Operator:
    name = "onednn::qlinear_pointwise" + (".binary" if binary else "")
    packed = "torch.ops.onednn.qlinear_prepack(w, None)"
    to = "1.0, 0, torch.float32" if output == "float32" else "scale, zero_point, torch.uint8"
    after = f"{'relu' if relu else 'none'!r}, [], ''"
    formula = linear.FORMULA
    if binary:
        call = (
            f"torch.ops.onednn.qlinear_pointwise.binary({X}, {packed}, {W}, added.clone(), bias, "
            f"{to}, {'added_scale, added_zero' if binary == 'sum' else '1.0, 0'}, {binary!r}, 1.0, {after})"
        )
        formula = f"({formula} + added_real)"
    else:
        call = f"torch.ops.onednn.qlinear_pointwise({X}, {packed}, {W}, bias, {to}, {after})"
    title = f"{name} ({suffix})" if suffix else name
    return Operator(
        name=title,
        call=call,
        formula=f"{formula}.relu()" if relu else formula,
        cases=partial(linear_cases, title),
        pose=partial(pose_linear, relu=relu, binary=binary, output=output),
        engines=ENGINES,
    )


def _convolution(
    kind: str, suffix: str, dims: int, *, relu: bool = False, binary: str = "", empty: bool | None = None
) -> Operator:
    name = f"onednn::{kind}" + (".binary" if binary else "")
    how = "stride, padding, dilation, groups"
    packed = f"torch.ops.onednn.qconv_prepack(w, w_scale, x_scale, x_zero, {how}, None)"
    to = f"{how}, scale, zero_point, torch.uint8"
    after = f"{'relu' if relu else 'none'!r}, [], ''"
    formula = convolution.FORMULA.format(kind=f"conv{dims}d")
    if binary:
        call = (
            f"torch.ops.onednn.{kind}.binary({X}, {packed}, {W}, added.clone(), bias, {to}, "
            f"added_scale, added_zero, {binary!r}, 1.0, {after})"
        )
        formula = f"({formula} + added_real)"
    else:
        call = f"torch.ops.onednn.{kind}({X}, {packed}, {W}, bias, {to}, {after})"
    title = f"{name} ({suffix})" if suffix else name
    return Operator(
        name=title,
        call=call,
        formula=f"{formula}.relu()" if relu else formula,
        cases=partial(convolution_cases, title, dims=dims, empty=empty),
        pose=partial(pose_convolution, relu=relu, add=bool(binary)),
        engines=ENGINES,
    )


def _elementwise(kind: str, combine: Combine, formula: str, *, relu: bool = False, strided: bool) -> Operator:
    name = f"onednn::{kind}.tensor"
    title = f"{name} (strided)" if strided else name
    two = "a, a_scale, a_zero, b, b_scale, b_zero"
    return Operator(
        name=title,
        call=f"torch.ops.onednn.{kind}.tensor({two}, scale, zero_point, torch.uint8)",
        formula=formula,
        cases=partial(elementwise_cases, title, strided=strided),
        pose=partial(pose_elementwise, combine=combine, relu=relu),
        engines=ENGINES,
    )


OPERATORS = (
    _linear(""),
    _linear("relu", relu=True),
    _linear("float32", output="float32"),
    _linear("sum", binary="sum"),
    _linear("sum, relu", binary="sum", relu=True),
    _linear("add", binary="add"),
    _linear("add, relu", binary="add", relu=True),
    _convolution("qconv_pointwise", "2d", 2),
    _convolution("qconv1d_pointwise", "", 1, empty=False),
    _convolution("qconv1d_pointwise", "empty batch", 1, empty=True),
    _convolution("qconv2d_pointwise", "relu", 2, relu=True),
    _convolution("qconv3d_pointwise", "", 3),
    _convolution("qconv2d_pointwise", "sum", 2, binary="sum"),
    _convolution("qconv2d_pointwise", "sum, relu", 2, binary="sum", relu=True),
    *(_elementwise("qadd", torch.add, "a_real + b_real", strided=strided) for strided in (False, True)),
    *(
        _elementwise("qadd_relu", torch.add, "(a_real + b_real).relu()", relu=True, strided=strided)
        for strided in (False, True)
    ),
    *(_elementwise("qmul", torch.mul, "a_real * b_real", strided=strided) for strided in (False, True)),
    Operator(
        name="onednn::qbatch_norm2d",
        call=(
            f"torch.ops.onednn.qbatch_norm2d({X}, weight, bias, mean, var, {norm.EPS!r}, "
            "scale, zero_point, torch.uint8)"
        ),
        formula=norm.BATCH,
        cases=partial(norm.cases, "onednn::qbatch_norm2d", dims=2),
        pose=pose_batch_norm,
        engines=ENGINES,
    ),
)
