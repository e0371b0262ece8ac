"""One tensor into one of its shape: the relu family, exact; curves, held to float64 within a step."""

from functools import partial

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators import elementwise
from noisefloor_workers.conformance.operators.linear import BOUND_LSB, Curve, activation, leaky, tanh
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact


def pose(
    case: Case, *, curve: Curve, own_scale: bool, fixed: tuple[float, int] | None, least_dims: int
) -> Posed:
    """X through the curve, into x's own scale, a fixed one, or one that the results fill."""
    shape = case.sizes["shape"]
    if len(shape) < least_dims:
        raise InvalidCase(f"it takes {least_dims} dimensions")
    draw = Draw(case)
    x = activation(draw, shape)
    real = curve(x.centred * x.scales)
    scale, zero_point = draw.output_scale(real), draw.integer(0, 255)
    if fixed is not None:
        scale, zero_point = fixed
    elif own_scale:
        scale, zero_point = float(x.scales), x.zero_point
    return Posed(
        givens={"x": x, "scale": scale, "zero_point": zero_point},
        exact=Exact(
            real=real / scale + zero_point,
            magnitude=(x.codes + x.zero_point) * x.scales / scale + zero_point + 1,
        ),
        step=scale,
        zero_point=zero_point,
    )


def _operator(
    name: str,
    call: str,
    formula: str,
    curve: Curve,
    *,
    own_scale: bool = False,
    fixed: tuple[float, int] | None = None,
    bound_lsb: float = 0.0,
    least_dims: int = 0,
) -> Operator:
    return Operator(
        name=name,
        call=call,
        formula=formula,
        cases=partial(elementwise.cases, name),
        pose=partial(pose, curve=curve, own_scale=own_scale, fixed=fixed, least_dims=least_dims),
        bound_lsb=bound_lsb,
    )


THRESHOLD = 0.25


def _relu6(x: Tensor) -> Tensor:
    return x.clamp(0, 6)


def _hard(x: Tensor) -> Tensor:
    return x.clamp(-0.5, 0.75)


def _elu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, x.expm1())


def _celu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.5 * (x / 0.5).expm1())


def _gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def _gelu_tanh(x: Tensor) -> Tensor:
    return x * (1 + tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2


def _threshold(x: Tensor) -> Tensor:
    return torch.where(x > THRESHOLD, x, 0.125)


def _same(x: Tensor) -> Tensor:
    return x


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def _hardswish(x: Tensor) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


def _hardsigmoid(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


def _softmax(x: Tensor) -> Tensor:
    weights = (x - x.amax(-1, keepdim=True)).exp() if x.numel() else x
    return weights / weights.sum(-1, keepdim=True)


RESCALED = "scale, zero_point"
OPERATORS = (
    _operator("aten::relu", "torch.relu(x)", "x_real.relu()", partial(torch.clamp, min=0), own_scale=True),
    _operator(
        "quantized::relu6",
        "torch.ops.quantized.relu6(x)",
        "torch.nn.functional.relu6(x_real)",
        _relu6,
        own_scale=True,
    ),
    _operator(
        "quantized::clamp",
        "torch.ops.quantized.clamp(x, -0.5, 0.75)",
        "torch.clamp(x_real, -0.5, 0.75)",
        _hard,
        own_scale=True,
    ),
    *(
        _operator(name, call, "torch.clamp(x_real, -0.5, 0.75)", _hard, own_scale=True)
        for name, call in (
            ("aten::clamp", "torch.clamp(x, -0.5, 0.75)"),
            ("aten::hardtanh", "torch.nn.functional.hardtanh(x, -0.5, 0.75)"),
        )
    ),
    *(
        _operator(
            name, call, "torch.nn.functional.threshold(x_real, 0.25, 0.125)", _threshold, own_scale=True
        )
        for name, call in (
            ("aten::threshold", "torch.nn.functional.threshold(x, 0.25, 0.125)"),
            ("quantized::threshold", "torch.ops.quantized.threshold(x, 0.25, 0.125)"),
        )
    ),
    _operator(
        "quantized::dropout",
        "torch.ops.quantized.dropout(x, scale, zero_point, 0.5, False)",
        "x_real + 0",
        _same,
        own_scale=True,
    ),
    _operator(
        "aten::leaky_relu",
        "torch.nn.functional.leaky_relu(x, 0.125)",
        "torch.nn.functional.leaky_relu(x_real, 0.125)",
        leaky,
        own_scale=True,
    ),
    *(
        _operator(
            f"aten::gelu ({approximate})" if approximate != "none" else "aten::gelu",
            f"torch.nn.functional.gelu(x, approximate={approximate!r})",
            f"torch.nn.functional.gelu(x_real, approximate={approximate!r})",
            curve,
            own_scale=True,
            bound_lsb=BOUND_LSB,
        )
        for approximate, curve in (("none", _gelu), ("tanh", _gelu_tanh))
    ),
    _operator(
        "quantized::celu",
        f"torch.ops.quantized.celu(x, {RESCALED}, 0.5)",
        "torch.nn.functional.celu(x_real, 0.5)",
        _celu,
        bound_lsb=BOUND_LSB,
    ),
    _operator(
        "quantized::leaky_relu",
        f"torch.ops.quantized.leaky_relu(x, 0.125, False, {RESCALED})",
        "torch.nn.functional.leaky_relu(x_real, 0.125)",
        leaky,
    ),
    _operator(
        "quantized::elu",
        f"torch.ops.quantized.elu(x, {RESCALED}, 1.0)",
        "torch.nn.functional.elu(x_real)",
        _elu,
        bound_lsb=BOUND_LSB,
    ),
    _operator(
        "quantized::sigmoid",
        f"torch.ops.quantized.sigmoid(x, {RESCALED})",
        "torch.sigmoid(x_real)",
        _sigmoid,
        bound_lsb=BOUND_LSB,
    ),
    _operator(
        "aten::sigmoid",
        "torch.sigmoid(x)",
        "torch.sigmoid(x_real)",
        _sigmoid,
        fixed=(1 / 256, 0),
        bound_lsb=BOUND_LSB,
    ),
    _operator(
        "aten::tanh",
        "torch.tanh(x)",
        "torch.tanh(x_real)",
        tanh,
        fixed=(2 / 256, 128),
        bound_lsb=BOUND_LSB,
    ),
    _operator(
        "quantized::hardswish",
        f"torch.ops.quantized.hardswish(x, {RESCALED})",
        "torch.nn.functional.hardswish(x_real)",
        _hardswish,
        bound_lsb=BOUND_LSB,
    ),
    _operator(
        "aten::hardsigmoid",
        "torch.nn.functional.hardsigmoid(x)",
        "torch.nn.functional.hardsigmoid(x_real)",
        _hardsigmoid,
        fixed=(1 / 256, 0),
        bound_lsb=BOUND_LSB,
    ),
    _operator(
        "quantized::softmax",
        f"torch.ops.quantized.softmax(x, -1, {RESCALED})",
        "torch.softmax(x_real, -1)",
        _softmax,
        bound_lsb=BOUND_LSB,
    ),
)
