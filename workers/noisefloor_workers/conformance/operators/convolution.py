"""Convolutions in one to three dimensions: static, fused with relu or a sum, dynamic, and transposed."""

from collections.abc import Iterable
from functools import partial
from itertools import product

from torch import Tensor

from noisefloor.contract.conformance import Case, Layout
from noisefloor.contract.lane import QUANTIZED_ENGINES
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Given, Givens, Quantized
from noisefloor_workers.conformance.operators import linear
from noisefloor_workers.conformance.operators.linear import VALUES, activation, bias, posed, units, weight
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed

Sizes = dict[str, tuple[int, ...]]
LAYOUTS: tuple[Layout, ...] = ("strided", "channels_last")
# The image, of which convolutions in one and two dimensions take the last lengths
IMAGE = (5, 6, 5)
# What differs from the usual, in as many lengths as there are dimensions
QUICK: tuple[Sizes, ...] = (
    {},
    {"batch": (0,)},
    {"channels": (3, 3)},
    {"channels": (16, 8)},
    {"channels": (5, 11)},
    {"groups": (2,)},
    {"groups": (3,), "channels": (1, 1)},
    {"groups": (8,), "channels": (1, 1)},
    {"groups": (8,), "channels": (1, 2)},
    {"groups": (3,), "channels": (4, 2)},
    {"kernel": (1, 1, 1)},
    {"kernel": (2, 1, 3)},
    {"stride": (1, 2, 1)},
    {"stride": (2, 2, 3)},
    {"padding": (1, 1, 1)},
    {"padding": (1, 0, 2)},
    {"dilation": (1, 1, 2)},
    {"stride": (2, 1, 2), "padding": (1, 2, 0), "dilation": (1, 2, 1)},
)
FULL: tuple[Sizes, ...] = (
    {"batch": (3,)},
    {"channels": (1, 1)},
    {"channels": (33, 17)},
    {"channels": (64, 32)},
    {"groups": (4,), "channels": (8, 8)},
    {"groups": (16,), "channels": (1, 1), "padding": (1, 1, 1)},
    {"groups": (16,), "channels": (1, 1), "stride": (2, 2, 2)},
    {"groups": (2,), "channels": (3, 5), "stride": (1, 2, 2), "padding": (1, 1, 0)},
    {"groups": (2,), "channels": (3, 5), "dilation": (1, 2, 2)},
    {"kernel": (3, 5, 4), "padding": (1, 2, 2)},
    {"stride": (3, 3, 2), "dilation": (1, 2, 2)},
)
UNPADDED: tuple[Sizes, ...] = (
    {"stride": (2, 2, 2), "output_padding": (1, 1, 1)},
    {"stride": (2, 3, 2), "output_padding": (1, 2, 0), "padding": (0, 1, 1), "channels": (4, 6)},
)


def cases(name: str, quick: bool, *, dims: int, transposed: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's
    """One thing differs at a time; values and granularity vary on a few of them, or in full on all."""
    usual: Sizes = {
        "batch": (1,),
        "channels": (4, 3),
        "groups": (1,),
        "image": IMAGE,
        "kernel": (3, 3, 2),
        "stride": (1, 1, 1),
        "padding": (0, 0, 0),
        "dilation": (1, 1, 1),
    }
    if transposed:
        usual |= {"output_padding": (0, 0, 0)}
    grid = (QUICK if quick else QUICK + FULL) + (UNPADDED if transposed else ())
    for number, differs in enumerate(grid):
        sizes = {
            key: lengths[-dims:] if len(lengths) == len(IMAGE) else lengths
            for key, lengths in (usual | differs).items()
        }
        varied = product(VALUES, (False, True))
        each = [("seven_bit", False), ("seven_bit", True)] if quick and number not in {0, 3, 5} else varied
        for values, per_channel in each:
            yield Case.model_validate(
                {"op": name, "sizes": sizes, "values": values, "per_channel": per_channel, "seed": number}
            )
        if number == 0:
            first = Case(op=name, sizes=sizes, seed=1)
            yield first.replace(bias=False)
            yield first.replace(weight_zero_point=3)
        if number == 0 or "groups" in differs:
            laid = Case(op=name, sizes=sizes, seed=number)
            for layout, per_channel in product(LAYOUTS[: 1 + (dims > 1)], (False, True)):
                yield laid.replace(layout=layout, per_channel=per_channel)


def pose(case: Case, *, relu: bool = False, transposed: bool = False, add: bool = False) -> Posed:
    """X [batch, in, *image]; w [out, in / groups, *kernel], transposed [in, out / groups, *kernel]."""
    draw = Draw(case)
    x = activation(draw, image_shape(case))
    w = weight(draw, weight_shape(case, transposed=transposed), axis=int(transposed))
    unit, b, steps = worked_out(draw, x, w, transposed=transposed)
    givens: dict[str, Given] = {"x": x, "w": w, "bias": b, **arguments(case, transposed=transposed)}
    across = _across(case)
    real = steps * (unit.reshape(across) if unit.dim() else unit)
    added = None if b is None else b.double().reshape(across)
    if add:
        summed = activation(draw, steps.shape)
        givens["added"] = summed
        values = summed.centred * summed.scales
        added = values if added is None else added + values
    return posed(draw, givens, real, added, relu=relu)


def pose_dynamic(case: Case, *, transposed: bool, reduce_range: bool) -> Posed:
    """The same with float x; the output is of floats."""
    draw = Draw(case)
    x = linear.spanning(draw, image_shape(case), reduce_range=reduce_range)
    w = weight(draw, weight_shape(case, transposed=transposed), axis=int(transposed))
    w = linear.weight_under(draw, w, reduce_range=reduce_range)
    unit, b, steps = worked_out(draw, x, w, transposed=transposed)
    givens: Givens = {"x": linear.floats(x), "w": w, "bias": b, **arguments(case, transposed=transposed)}
    return linear.accumulated(givens, steps, unit, b, relu=False, axis=1)


def image_shape(case: Case) -> tuple[int, ...]:
    """[batch, in, *image]."""
    (groups,), (inputs, _outputs) = case.sizes["groups"], case.sizes["channels"]
    return (*case.sizes["batch"], inputs * groups, *case.sizes["image"])


def weight_shape(case: Case, *, transposed: bool = False) -> tuple[int, ...]:
    """[out, in / groups, *kernel], transposed [in, out / groups, *kernel]."""
    (groups,), (inputs, outputs) = case.sizes["groups"], case.sizes["channels"]
    shape = (inputs * groups, outputs) if transposed else (outputs * groups, inputs)
    return (*shape, *case.sizes["kernel"])


def arguments(case: Case, *, transposed: bool = False) -> dict[str, Given]:
    """The givens that are no tensors."""
    sizes = case.sizes
    how: dict[str, Given] = {name: sizes[name] for name in ("stride", "padding", "dilation")}
    if transposed:
        how["output_padding"] = sizes["output_padding"]
    return {**how, "groups": sizes["groups"][0]}


def worked_out(
    draw: Draw, x: Quantized, w: Quantized, *, transposed: bool = False
) -> tuple[Tensor, Tensor | None, Tensor]:
    """What a step of the accumulator is worth, the bias, and the accumulator before it."""
    sizes = draw.case.sizes
    (groups,), (_inputs, outputs) = sizes["groups"], sizes["channels"]
    _require_call(draw.case, transposed=transposed)
    unit = units(x, w)
    b = bias(draw, unit, outputs * groups)
    how = {name: sizes[name] for name in ("stride", "padding", "dilation")}
    if transposed:
        ends = sizes["output_padding"]
        steps = oracle.transposed_convolution(x.centred, w.centred, **how, output_padding=ends, groups=groups)
    else:
        steps = oracle.convolution(x.centred, w.centred, **how, groups=groups)
    return unit, b, steps


def _across(case: Case) -> tuple[int, ...]:
    """The shape in which one number a channel lies across an output."""
    return (-1, *(1 for _ in case.sizes["image"]))


def _require_call(case: Case, *, transposed: bool) -> None:
    """Refuse sizes that torch refuses of its float convolutions too."""
    sizes = case.sizes
    if transposed:
        if case.per_channel and sizes["groups"] != (1,):
            raise InvalidCase("the channels of a weight [in, out / groups] are not those of the output")
        outside = (
            o >= max(s, d)
            for o, s, d in zip(sizes["output_padding"], sizes["stride"], sizes["dilation"], strict=True)
        )
        if any(outside):
            raise InvalidCase("output padding is below stride or dilation")
        lengths = (
            (n - 1) * s + d * (k - 1) + 1 + o - 2 * p
            for n, s, d, k, o, p in zip(
                *(
                    sizes[key]
                    for key in ("image", "stride", "dilation", "kernel", "output_padding", "padding")
                ),
                strict=True,
            )
        )
    else:
        lengths = (
            n + 2 * p - d * (k - 1)
            for n, p, d, k in zip(
                *(sizes[key] for key in ("image", "padding", "dilation", "kernel")), strict=True
            )
        )
    if min(lengths) < 1:
        raise InvalidCase("the kernel is larger than the image")


def _convolution(dims: int, *, relu: bool) -> Operator:
    kind = f"conv{dims}d"
    name = f"quantized::{kind}" + ("_relu" if relu else "")
    formula = FORMULA.format(kind=kind)
    return Operator(
        name=name,
        call=f"torch.ops.{name.replace('::', '.')}(x, {_prepacked(kind)}, scale, zero_point)",
        formula=f"{formula}.relu()" if relu else formula,
        cases=partial(cases, name, dims=dims, transposed=False),
        pose=partial(pose, relu=relu),
        covers=(name if dims == 1 else f"{name}.new",),
    )


def _added(*, relu: bool) -> Operator:
    name = "quantized::conv2d_add" + ("_relu" if relu else "")
    formula = f"({FORMULA.format(kind='conv2d')} + added_real)"
    return Operator(
        name=name,
        call=f"torch.ops.{name.replace('::', '.')}(x, added, {_prepacked('conv2d')}, scale, zero_point)",
        formula=f"{formula}.relu()" if relu else formula,
        cases=partial(cases, name, dims=2, transposed=False),
        pose=partial(pose, relu=relu, add=True),
    )


def _transposed(dims: int) -> Operator:
    kind = f"conv_transpose{dims}d"
    name = f"quantized::{kind}"
    return Operator(
        name=name,
        call=f"torch.ops.quantized.{kind}(x, {_prepacked(kind)}, scale, zero_point)",
        formula=TRANSPOSED_FORMULA.format(kind=kind),
        cases=partial(cases, name, dims=dims, transposed=True),
        pose=partial(pose, transposed=True),
    )


def _dynamic(dims: int, *, transposed: bool, reduce_range: bool) -> Operator:
    kind = f"conv_transpose{dims}d" if transposed else f"conv{dims}d"
    name = f"quantized::{kind}_dynamic" + (" (reduce_range)" if reduce_range else "")
    return Operator(
        name=name,
        call=f"torch.ops.quantized.{kind}_dynamic(x, {_prepacked(kind)}, {reduce_range})",
        formula=(TRANSPOSED_FORMULA if transposed else FORMULA).format(kind=kind),
        cases=partial(cases, name, dims=dims, transposed=transposed),
        pose=partial(pose_dynamic, transposed=transposed, reduce_range=reduce_range),
        engines=linear.REDUCING if reduce_range else QUANTIZED_ENGINES,
    )


def _prepacked(kind: str) -> str:
    ends = "output_padding, " if "transpose" in kind else ""
    return f"torch.ops.quantized.{kind}_prepack(w, bias, stride, padding, {ends}dilation, groups)"


FORMULA = "torch.nn.functional.{kind}(x_real, w_real, bias_real, stride, padding, dilation, groups)"
TRANSPOSED_FORMULA = (
    "torch.nn.functional.{kind}(x_real, w_real, bias_real, stride, padding, output_padding, groups, dilation)"
)
OPERATORS = (
    *(_convolution(dims, relu=relu) for dims, relu in product((1, 2, 3), (False, True))),
    *(_added(relu=relu) for relu in (False, True)),
    *(_transposed(dims) for dims in (1, 2, 3)),
    *(
        _dynamic(dims, transposed=transposed, reduce_range=reduce_range)
        for transposed, dims, reduce_range in product((False, True), (1, 2, 3), (False, True))
    ),
)
