"""Means and standard deviations over some dimensions, in the scale of the input."""

from collections.abc import Iterable
from functools import partial
from itertools import product

import torch

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

SHAPES = ((1, 2), (5, 7), (3, 33), (1, 3, 5), (0, 3, 4, 5), (1, 3, 4, 5), (2, 16, 7, 6))


def cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Shapes × values; layouts on an image."""
    del quick
    for shape, values in product(SHAPES, VALUES):
        yield Case(op=name, sizes={"shape": shape}, values=values)
    yield Case(op=name, sizes={"shape": (2, 3, 4, 5)}, layout="strided")
    yield Case(op=name, sizes={"shape": (2, 3, 4, 5)}, layout="channels_last")


def pose(case: Case, *, over: tuple[int, ...], deviation: bool) -> Posed:
    """X [*shape]; a deviation is Bessel's, and is added to the zero point."""
    shape = case.sizes["shape"]
    if len(shape) < 1 - min(over):
        raise InvalidCase("there are fewer dimensions than are taken together")
    draw = Draw(case)
    x = activation(draw, shape)
    count = torch.empty(shape, device="meta").sum(over).numel()
    each = x.codes.numel() // count if count else 0
    if deviation and each < 2:  # noqa: PLR2004 - one number deviates from nothing
        raise InvalidCase("one number has no deviation")
    steps = x.centred.double().sum(over) / max(each, 1)
    if deviation:
        squares = (x.centred**2).sum(over).double() - x.centred.sum(over).double() ** 2 / each
        steps = (squares / (each - 1)).sqrt()
    return Posed(
        givens={"x": x},
        exact=Exact(real=steps + x.zero_point, magnitude=torch.full(steps.shape, 512.0)),
        step=float(x.scales),
        zero_point=x.zero_point,
    )


def _operator(name: str, title: str, over: tuple[int, ...]) -> Operator:
    call = f"torch.{'std' if 'std' in name else 'mean'}(x, {over})"
    return Operator(
        name=title,
        call=call,
        formula=call.replace("(x,", "(x_real,"),
        cases=partial(cases, title),
        pose=partial(pose, over=over, deviation="std" in name),
        covers=(name,),
    )


OPERATORS = tuple(
    _operator(name, f"{name} ({words})", over)
    for name in ("aten::mean.dim", "aten::std.correction")
    for words, over in (("rows", (-1,)), ("images", (-2, -1)), ("first", (-2,)))
)
