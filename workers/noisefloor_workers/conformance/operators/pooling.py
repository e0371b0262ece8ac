"""Pools: the largest or the mean of windows, in the scale of the input."""

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Literal

import torch

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

Kind = Literal["max", "mean", "adaptive"]
Sizes = dict[str, tuple[int, ...]]
GRID: tuple[Sizes, ...] = (
    {},
    {"batch": (0,)},
    {"batch": (2,), "channels": (17,)},
    {"kernel": (3, 3, 2)},
    {"stride": (1, 1, 1)},
    {"stride": (1, 2, 3), "kernel": (2, 3, 2)},
    {"padding": (1, 1, 1)},
    {"padding": (1, 1, 0), "kernel": (2, 3, 3), "stride": (1, 1, 2)},
    {"dilation": (1, 1, 2)},
    {"image": (2, 2, 2)},
    {"image": (1, 1, 1), "kernel": (1, 1, 1)},
)


def cases(name: str, quick: bool, *, dims: int, dilated: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's
    """One thing differs at a time, with all values; layouts on the first."""
    del quick
    usual: Sizes = {
        "batch": (1,),
        "channels": (3,),
        "image": (4, 6, 5),
        "kernel": (2, 2, 2),
        "stride": (2, 2, 2),
        "padding": (0, 0, 0),
        "dilation": (1, 1, 1),
    }
    for differs, values in product(GRID, VALUES):
        if "dilation" in differs and not dilated:
            continue
        sizes = {
            key: s[-dims:] if len(s) == len(usual["image"]) else s for key, s in (usual | differs).items()
        }
        yield Case(op=name, sizes=sizes, values=values)
        if not differs and values == "seven_bit":
            yield Case(op=name, sizes=sizes, layout="strided")
            if dims > 1:
                yield Case(op=name, sizes=sizes, layout="channels_last")


def pose(case: Case, *, kind: Kind) -> Posed:
    """X [batch, channels, *image]; means count the padding, which is a real zero."""
    draw, sizes = Draw(case), case.sizes
    x = activation(draw, (*sizes["batch"], *sizes["channels"], *sizes["image"]))
    how = {name: sizes[name] for name in ("kernel", "stride", "padding", "dilation")}
    if kind == "adaptive":
        steps = oracle.adaptive_means(x.centred, how["kernel"])
    else:
        _require_call(sizes)
        fill = torch.iinfo(torch.int64).min if kind == "max" else 0
        windows = oracle.windows(x.centred, **how, fill=fill)
        steps = windows.amax(0).double() if kind == "max" else windows.sum(0).double() / windows.shape[0]
    real = steps + x.zero_point
    return Posed(
        givens={"x": x, **how},
        exact=Exact(real=real, magnitude=real.abs() + x.zero_point + 1),
        step=float(x.scales),
        zero_point=x.zero_point,
    )


def _require_call(sizes: Sizes) -> None:
    zipped = zip(*(sizes[key] for key in ("image", "kernel", "padding", "dilation")), strict=True)
    for length, kernel, padding, dilation in zipped:
        if 2 * padding > kernel or length + 2 * padding < dilation * (kernel - 1) + 1:
            raise InvalidCase("the window is larger than the image, or the padding than half the window")


def _operator(name: str, call: str, formula: str, *, dims: int, kind: Kind, covers: str = "") -> Operator:
    return Operator(
        name=name,
        call=call,
        formula=formula,
        cases=partial(cases, name, dims=dims, dilated=kind == "max"),
        pose=partial(pose, kind=kind),
        covers=(covers,) if covers else (),
    )


FUNCTIONAL = "torch.nn.functional"
# what is registered for one, two and three dimensions
MEANS = ("aten::avg_pool2d", "aten::avg_pool2d", "aten::avg_pool3d")
ADAPTIVE = ("aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool2d", "aten::_adaptive_avg_pool3d")
OPERATORS = (
    *(
        _operator(
            f"quantized::max_pool{dims}d",
            f"torch.ops.quantized.max_pool{dims}d(x, kernel, stride, padding, dilation, False)",
            f"{FUNCTIONAL}.max_pool{dims}d(x_real, kernel, stride, padding, dilation)",
            dims=dims,
            kind="max",
        )
        for dims in (1, 2)
    ),
    *(
        _operator(
            f"aten::quantized_max_pool{dims}d",
            f"torch.quantized_max_pool{dims}d(x, kernel, stride, padding, dilation, False)",
            f"{FUNCTIONAL}.max_pool{dims}d(x_real, kernel, stride, padding, dilation)",
            dims=dims,
            kind="max",
        )
        for dims in (1, 2, 3)
    ),
    *(
        _operator(
            f"aten::avg_pool{dims}d",
            f"{FUNCTIONAL}.avg_pool{dims}d(x, kernel, stride, padding)",
            f"{FUNCTIONAL}.avg_pool{dims}d(x_real, kernel, stride, padding)",
            dims=dims,
            kind="mean",
            covers=covers,
        )
        for dims, covers in zip((1, 2, 3), MEANS, strict=True)
    ),
    *(
        _operator(
            f"aten::adaptive_avg_pool{dims}d",
            f"{FUNCTIONAL}.adaptive_avg_pool{dims}d(x, kernel)",
            f"{FUNCTIONAL}.adaptive_avg_pool{dims}d(x_real, kernel)",
            dims=dims,
            kind="adaptive",
            covers=covers,
        )
        for dims, covers in zip((1, 2, 3), ADAPTIVE, strict=True)
    ),
)
