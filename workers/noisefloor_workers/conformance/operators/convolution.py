"""Convolutions, with and without relu, dynamic or not, and transposed ones, in one to three dimensions."""

from collections.abc import Iterable
from functools import partial
from itertools import product

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Givens
from noisefloor_workers.conformance.operators.linear import VALUES, activation, bias, posed, units, weight
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed

Sizes = dict[str, tuple[int, ...]]
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
            yield first.replace(layout="strided")
            yield first.replace(bias=False)
            yield first.replace(weight_zero_point=3)
            if dims > 1:
                yield first.replace(layout="channels_last")


def pose(case: Case, *, relu: bool, transposed: bool) -> Posed:
    """X [batch, in, *image]; w [out, in / groups, *kernel], transposed [in, out / groups, *kernel]."""
    draw, sizes = Draw(case), case.sizes
    (groups,), (inputs, outputs) = sizes["groups"], sizes["channels"]
    x = activation(draw, (*sizes["batch"], inputs * groups, *sizes["image"]))
    shape = (inputs * groups, outputs) if transposed else (outputs * groups, inputs)
    w = weight(draw, (*shape, *sizes["kernel"]), axis=int(transposed))
    _require_call(case, transposed=transposed)
    unit = units(x, w)
    b = bias(draw, unit, outputs * groups)
    how = {name: sizes[name] for name in ("stride", "padding", "dilation")}
    if transposed:
        how["output_padding"] = sizes["output_padding"]
        accumulated = oracle.transposed_convolution(x.centred, w.centred, **how, groups=groups)
    else:
        accumulated = oracle.convolution(x.centred, w.centred, **how, groups=groups)
    givens: Givens = {"x": x, "w": w, "bias": b, **how, "groups": groups}
    across = (-1, *(1 for _ in sizes["image"]))
    added = None if b is None else b.reshape(across)
    return posed(draw, givens, accumulated * (unit.reshape(across) if unit.dim() else unit), added, relu=relu)


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
    formula = f"torch.nn.functional.{kind}(x_real, w_real, bias_real, stride, padding, dilation, groups)"
    prepack = f"torch.ops.quantized.{kind}_prepack(w, bias, stride, padding, dilation, groups)"
    return Operator(
        name=name,
        call=f"torch.ops.{name.replace('::', '.')}(x, {prepack}, scale, zero_point)",
        formula=f"{formula}.relu()" if relu else formula,
        cases=partial(cases, name, dims=dims, transposed=False),
        pose=partial(pose, relu=relu, transposed=False),
    )


def _transposed(dims: int) -> Operator:
    kind = f"conv_transpose{dims}d"
    name = f"quantized::{kind}"
    arguments = "stride, padding, output_padding"
    prepack = f"torch.ops.quantized.{kind}_prepack(w, bias, {arguments}, dilation, groups)"
    return Operator(
        name=name,
        call=f"torch.ops.quantized.{kind}(x, {prepack}, scale, zero_point)",
        formula=f"torch.nn.functional.{kind}(x_real, w_real, bias_real, {arguments}, groups, dilation)",
        cases=partial(cases, name, dims=dims, transposed=True),
        pose=partial(pose, relu=False, transposed=True),
    )


OPERATORS = (
    *(_convolution(dims, relu=relu) for dims, relu in product((1, 2, 3), (False, True))),
    *(_transposed(dims) for dims in (1, 2, 3)),
)
