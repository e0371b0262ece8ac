"""Images made larger, smaller or of points on a grid, in the scale of the input."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

Sizes = tuple[int, ...]
# an axis of this length, to that one: one step of the output, in steps of the input, and where it begins
Lines = Callable[[int, int], Tensor]
GRID: tuple[tuple[Sizes, Sizes], ...] = (
    ((2, 3, 4), (4, 6, 8)),
    ((4, 6, 5), (3, 5, 7)),
    ((4, 4, 4), (2, 2, 2)),
    ((3, 5, 4), (3, 5, 4)),
    ((1, 1, 1), (2, 3, 1)),
    ((2, 7, 9), (5, 12, 3)),
)


def cases(name: str, quick: bool, *, dims: int) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Images × batches and channels × values; layouts on one."""
    del quick
    for (image, out), channels, values in product(GRID, ((1, 3), (2, 17)), VALUES):
        sizes = {
            "batch": channels[:1],
            "channels": channels[1:],
            "image": image[-dims:],
            "out": out[-dims:],
        }
        yield Case(op=name, sizes=sizes, values=values)
    usual = {"batch": (2,), "channels": (3,), "image": (4, 6, 5)[-dims:], "out": (3, 9, 10)[-dims:]}
    yield Case(op=name, sizes={**usual, "batch": (0,)})
    yield Case(op=name, sizes=usual, layout="strided")
    yield Case(op=name, sizes=usual, layout="channels_last")


def pose(case: Case, *, lines: Lines) -> Posed:
    """X [batch, channels, *image]; each axis is a matrix of weights [out, length]."""
    draw, sizes = Draw(case), case.sizes
    x = activation(draw, (*sizes["batch"], *sizes["channels"], *sizes["image"]))
    steps = x.centred.double()
    for axis, (length, out) in enumerate(zip(sizes["image"], sizes["out"], strict=True), start=2):
        steps = torch.tensordot(steps, lines(length, out), dims=([axis], [1])).movedim(-1, axis)
    return Posed(
        givens={"x": x, "out": sizes["out"]},
        exact=Exact(real=steps + x.zero_point, magnitude=torch.full(steps.shape, 512.0)),
        step=float(x.scales),
        zero_point=x.zero_point,
    )


def grid_cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Images × grids × values; layouts on one."""
    del quick
    for ((*_, height, width), (*_, rows, columns)), batch, values in product(GRID, (1, 2), VALUES):
        sizes = {"batch": (batch,), "channels": (3,), "image": (height, width), "out": (rows, columns)}
        yield Case(op=name, sizes=sizes, values=values)
    usual = {"batch": (2,), "channels": (3,), "image": (4, 6), "out": (3, 9)}
    yield Case(op=name, sizes={**usual, "batch": (0,)})
    yield Case(op=name, sizes=usual, layout="strided")
    yield Case(op=name, sizes=usual, layout="channels_last")


def pose_grid(case: Case) -> Posed:
    """X [batch, channels, height, width]; grid [batch, *out, 2], x before y; there are zeros outside."""
    draw, sizes = Draw(case), case.sizes
    image, (batch,) = sizes["image"], sizes["batch"]
    x = activation(draw, (batch, *sizes["channels"], *image))
    sixteenths = draw.integers(-20, 20, (batch, *sizes["out"], 2))
    across = [
        _at(((sixteenths[..., 1 - axis].double() / 16 + 1) * length - 1) / 2, length)
        for axis, length in enumerate(image)
    ]
    steps = torch.einsum("nchw,nijh,nijw->ncij", x.centred.double(), *across)
    return Posed(
        givens={"x": x, "grid": sixteenths.float() / 16},
        exact=Exact(real=steps + x.zero_point, magnitude=torch.full(steps.shape, 512.0)),
        step=float(x.scales),
        zero_point=x.zero_point,
    )


def _at(places: Tensor, length: int) -> Tensor:
    """Two weights for each place, by how near it is to whole ones; none outside."""
    return (1 - (places[..., None] - torch.arange(length)).abs()).clamp(min=0)


def nearest(length: int, out: int, *, centred: bool = False) -> Tensor:
    """One in each row: at floor(i · length / out), of centres at floor((i + ½) · length / out).

    >>> nearest(2, 4).argmax(1).tolist(), nearest(3, 2, centred=True).argmax(1).tolist()
    ([0, 0, 1, 1], [0, 2])
    """
    places = [(2 * i + centred) * length // (2 * out) for i in range(out)]
    return torch.eye(length, dtype=torch.float64)[places]


def linear(length: int, out: int, *, corners: bool) -> Tensor:
    """Two in each row, by how near they are; the ends lie on one another, or the centres of the ends do.

    >>> linear(2, 3, corners=True).tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    weights = torch.zeros(out, length, dtype=torch.float64)
    for i in range(out):
        if corners:
            place = i * (length - 1) / (out - 1) if out > 1 else 0.0
        else:
            place = max(0.0, (i + 0.5) * length / out - 0.5)
        low = min(int(place), length - 1)
        weights[i, low] += 1 - (place - low)
        weights[i, min(low + 1, length - 1)] += place - low
    return weights


def _operator(name: str, arguments: str, dims: int, lines: Lines, *, title: str = "") -> Operator:
    call = f"torch.nn.functional.interpolate(x, out, {arguments})"
    return Operator(
        name=title or name,
        call=call,
        formula=call.replace("(x,", "(x_real,"),
        cases=partial(cases, title or name, dims=dims),
        pose=partial(pose, lines=lines),
        covers=(name,),
    )


OPERATORS = (
    *(_operator(f"aten::upsample_nearest{dims}d", "mode='nearest'", dims, nearest) for dims in (2, 3)),
    *(
        _operator(
            f"aten::_upsample_nearest_exact{dims}d",
            "mode='nearest-exact'",
            dims,
            partial(nearest, centred=True),
        )
        for dims in (2, 3)
    ),
    *(
        _operator(
            "aten::upsample_bilinear2d",
            f"mode='bilinear', align_corners={corners}",
            2,
            partial(linear, corners=corners),
            title="aten::upsample_bilinear2d" + (" (corners)" if corners else ""),
        )
        for corners in (False, True)
    ),
    Operator(
        name="aten::grid_sampler_2d",
        call="torch.nn.functional.grid_sample(x, grid, align_corners=False)",
        formula="torch.nn.functional.grid_sample(x_real, grid_real, align_corners=False)",
        cases=partial(grid_cases, "aten::grid_sampler_2d"),
        pose=pose_grid,
    ),
)
