"""Normalizations. Batch norm is affine, and exact; the others divide by a spread: float64 within a step."""

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Literal

from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Given
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

Kind = Literal["batch", "layer", "group", "instance"]
EPS = 2.0**-10
FLOAT_STEPS = 64
BOUND_LSB = 1.0
GRID = tuple(product(((0,), (1,), (3,)), (2, 6, 34), ((4, 6, 5), (1, 1, 2))))


def cases(name: str, quick: bool, *, dims: int) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Batches × channels × images × values; channels are even, for two groups of them."""
    del quick
    for (batch, channels, image), values in product(GRID, VALUES):
        sizes = {"batch": batch, "groups": (2,), "channels": (channels // 2,), "image": image[-dims:]}
        yield Case(op=name, sizes=sizes, values=values)
    usual = Case(op=name, sizes={"batch": (2,), "groups": (2,), "channels": (3,), "image": (4, 6, 5)[-dims:]})
    yield usual.replace(layout="strided")
    yield usual.replace(bias=False)
    if dims > 1:
        yield usual.replace(layout="channels_last")


def pose(case: Case, *, kind: Kind, relu: bool) -> Posed:
    """X [batch, channels, *image]; the affine parameters are float32, one a channel or an element."""
    draw, sizes = Draw(case), case.sizes
    if kind == "instance" and sizes["batch"] == (0,):
        raise InvalidCase("torch refuses it in float too")
    (groups,), (each,) = sizes["groups"], sizes["channels"]
    channels = groups * each
    x = activation(draw, (*sizes["batch"], channels, *sizes["image"]))
    affine = (channels, *sizes["image"]) if kind == "layer" else (channels,)
    weight, bias = (_floats(draw, affine, low=-FLOAT_STEPS) for _ in "wb")
    mean, var = _floats(draw, (channels,), low=-FLOAT_STEPS), _floats(draw, (channels,), low=1)
    across = (-1, *(1 for _ in sizes["image"]))
    shape = affine if kind == "layer" else across
    values = x.centred * x.scales
    if kind == "batch":
        centre, spread = mean.double().reshape(across), var.double().reshape(across)
    else:
        over = groups if kind == "group" else 1 if kind == "layer" else channels
        centre, spread = _moments(values, over)
    factor = weight.double().reshape(shape) / (spread + EPS).sqrt()
    real = (values - centre) * factor + bias.double().reshape(shape)
    scale, zero_point = draw.output_scale(real), draw.integer(0, 255)
    terms = ((x.codes + x.zero_point) * x.scales + centre.abs()) * factor.abs() + bias.abs().reshape(shape)
    given: dict[str, Given] = {"weight": weight, "bias": bias, "scale": scale, "zero_point": zero_point}
    if kind == "batch":
        given |= {"mean": mean, "var": var}
    elif kind == "layer":
        given |= {"shape": affine}
    elif kind == "group":
        given |= {"groups": groups}
    return Posed(
        givens={"x": x, **given},
        exact=Exact(
            real=real / scale + zero_point,
            magnitude=terms / scale + zero_point + 1,
            low=zero_point if relu else 0,
        ),
        step=scale,
        zero_point=zero_point,
    )


def _floats(draw: Draw, shape: tuple[int, ...], *, low: int) -> Tensor:
    """Numbers from -1 or above zero to 1, in steps of 1/64; float32."""
    return draw.integers(low, FLOAT_STEPS, shape).float() / FLOAT_STEPS


def _moments(values: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance over each group of channels of a sample, spread back to the shape of the values."""
    together = values.reshape(values.shape[0], groups, values[0].numel() // groups if len(values) else 0)
    mean = together.mean(-1, keepdim=True)
    var = ((together - mean) ** 2).mean(-1, keepdim=True)
    return tuple(m.expand_as(together).reshape(values.shape) for m in (mean, var))  # type: ignore[return-value]


def _operator(name: str, arguments: str, formula: str, *, dims: int, kind: Kind) -> Operator:
    relu = name.endswith("_relu")
    return Operator(
        name=name,
        call=f"torch.ops.{name.replace('::', '.')}(x, {arguments}, {EPS!r}, scale, zero_point)",
        formula=f"{formula}.relu()" if relu else formula,
        cases=partial(cases, name, dims=dims),
        pose=partial(pose, kind=kind, relu=relu),
        bound_lsb=0.0 if kind == "batch" else BOUND_LSB,
    )


NORM = "torch.nn.functional"
BATCH = f"{NORM}.batch_norm(x_real, mean_real, var_real, weight_real, bias_real, False, 0.0, {EPS!r})"
OPERATORS = (
    *(
        _operator(
            f"quantized::batch_norm{dims}d{suffix}", "weight, bias, mean, var", BATCH, dims=dims, kind="batch"
        )
        for dims, suffix in product((1, 2, 3), ("", "_relu"))
    ),
    *(
        _operator(f"quantized::batch_norm{suffix}", "weight, bias, mean, var", BATCH, dims=2, kind="batch")
        for suffix in ("", "_relu")
    ),
    _operator("aten::quantized_batch_norm", "weight, bias, mean, var", BATCH, dims=2, kind="batch"),
    _operator(
        "quantized::layer_norm",
        "shape, weight, bias",
        f"{NORM}.layer_norm(x_real, shape, weight_real, bias_real, {EPS!r})",
        dims=2,
        kind="layer",
    ),
    _operator(
        "quantized::group_norm",
        "groups, weight, bias",
        f"{NORM}.group_norm(x_real, groups, weight_real, bias_real, {EPS!r})",
        dims=2,
        kind="group",
    ),
    _operator(
        "quantized::instance_norm",
        "weight, bias",
        f"{NORM}.instance_norm(x_real, None, None, weight_real, bias_real, True, 0.0, {EPS!r})",
        dims=2,
        kind="instance",
    ),
)
