"""What puts codes elsewhere, picks some of them or compares them, in the scale of the input.

An affine map that rises keeps order and place, so the exact result is the same expression on the codes.
"""

import re
from collections.abc import Iterable
from functools import partial
from itertools import product

import torch

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Given, evaluate
from noisefloor_workers.conformance.operators.linear import VALUES, activation
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

Shape = tuple[int, ...]
MATRICES: tuple[Shape, ...] = ((1, 3), (1, 2), (5, 7), (3, 33), (2, 3, 4, 5), (4, 67))
IMAGES: tuple[Shape, ...] = ((1, 4, 3, 3), (2, 8, 5, 6), (1, 6, 4, 9))
SIGNALS: tuple[Shape, ...] = ((1, 3, 4), (2, 5, 9))
EMPTY: Shape = (0, 3)


def cases(name: str, quick: bool, *, shapes: tuple[Shape, ...]) -> Iterable[Case]:  # noqa: FBT001
    """Shapes × values; layouts on the largest of as many dimensions as it has."""
    del quick
    for shape, values in product(shapes, VALUES):
        yield Case(op=name, sizes={"shape": shape}, values=values)
    deepest = max(shapes, key=lambda shape: (len(shape), min(shape)))
    yield Case(op=name, sizes={"shape": deepest}, layout="strided")
    if len(deepest) > 3:  # noqa: PLR2004 - an image has channels
        yield Case(op=name, sizes={"shape": deepest}, layout="channels_last")


def pose(case: Case, *, on_codes: str, least_dims: int, truths: bool) -> Posed:
    """X [*shape]; y like it with a scale of its own; a real value, places of the last axis, a mask."""
    shape = case.sizes["shape"]
    if len(shape) < least_dims:
        raise InvalidCase(f"it takes {least_dims} dimensions")
    draw = Draw(case)
    x, y = activation(draw, shape), activation(draw, shape)
    scale = float(x.scales)
    value = draw.integer(-8, 8) * scale / 2
    places = draw.integers(0, shape[-1] - 1, (3,))
    mask = draw.integers(0, 1, shape).bool()
    given: dict[str, Given] = {"x": x, "y": y, "value": value, "places": places, "mask": mask}
    # all that is compared is in steps of x, with its zero point
    names = {
        **given,
        "x": x.codes.double(),
        "y": (y.centred * y.scales) / scale + x.zero_point,
        "value": value / scale + x.zero_point,
    }
    try:
        found = evaluate(on_codes, names)
    except (RuntimeError, IndexError) as error:
        raise InvalidCase("torch refuses it on floats too") from error
    used = {name: one for name, one in given.items() if re.search(rf"\b{name}\b", on_codes)}
    if truths:
        exact = Exact(real=found.double(), magnitude=torch.zeros(found.shape), high=1)
        return Posed(givens=used, exact=exact, step=1.0, form="floats")
    exact = Exact(real=found, magnitude=torch.full(found.shape, 256.0))
    return Posed(givens=used, exact=exact, step=scale, zero_point=x.zero_point)


def pose_dequantize(case: Case) -> Posed:
    """X [*shape], to floats."""
    x = activation(Draw(case), case.sizes["shape"])
    real = x.centred.double()
    exact = Exact(real=real, magnitude=real.abs(), low=-torch.inf, high=torch.inf)
    return Posed(givens={"x": x}, exact=exact, step=float(x.scales), form="floats")


def _moved(
    name: str,
    expression: str,
    *,
    shapes: tuple[Shape, ...] = MATRICES,
    empty: bool = True,
    truths: bool = False,
    title: str = "",
    plain: str = "",
) -> Operator:
    """An operator that is the same expression on quantized tensors, on codes and on real values.

    Or there is a `plain` one, for the latter two.
    """
    plain = plain or expression
    shapes = (EMPTY + (4,) * (len(shapes[0]) - 2), *shapes) if empty else shapes
    return Operator(
        name=title or name,
        call=expression,
        formula=re.sub(r"\b([xy])\b", r"\1_real", plain) + (".double()" if truths else ""),
        cases=partial(cases, title or name, shapes=shapes),
        pose=partial(pose, on_codes=plain, least_dims=min(map(len, shapes)), truths=truths),
        covers=(name,),
    )


FUNCTIONAL = "torch.nn.functional"
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
OPERATORS = (
    Operator(
        name="aten::dequantize.self",
        call="x.dequantize()",
        formula="x_real + 0",
        cases=partial(cases, "aten::dequantize.self", shapes=(EMPTY, *MATRICES)),
        pose=pose_dequantize,
    ),
    _moved("aten::clone", "x.clone()"),
    _moved("aten::flip", "x.flip(0, -1)"),
    _moved("aten::unfold", "x.unfold(-1, 2, 1)", empty=False),
    _moved("aten::index.Tensor", "x[..., places]"),
    _moved("aten::index_select", "x.index_select(-1, places)"),
    _moved("aten::masked_fill_.Scalar", "x.clone().masked_fill_(mask, value)", title="aten::masked_fill_"),
    _moved("aten::fill_.Scalar", "x.clone().fill_(value)", title="aten::fill_"),
    _moved(
        "aten::_index_put_impl_",
        "torch.ops.aten._index_put_impl_(x.clone(), [mask], torch.tensor(value))",
        plain="x.index_put((mask,), torch.tensor(value).double())",
    ),
    _moved("aten::sort.stable", "x.sort(-1, descending=True)[0]"),
    _moved("aten::topk", "x.topk(2, -1)[0]"),
    _moved("aten::max", "x.max()", empty=False),
    _moved("aten::min", "x.min()", empty=False),
    _moved("aten::max.dim", "x.max(-1)[0]"),
    _moved("aten::min.dim", "x.min(-1)[0]"),
    _moved("aten::channel_shuffle", f"{FUNCTIONAL}.channel_shuffle(x, 2)", shapes=IMAGES, empty=False),
    _moved("aten::reflection_pad1d.out", f"{FUNCTIONAL}.pad(x, (1, 2), mode='reflect')", shapes=SIGNALS),
    _moved("aten::reflection_pad2d", f"{FUNCTIONAL}.pad(x, (1, 2, 2, 0), mode='reflect')", shapes=IMAGES),
    *(
        _moved(f"aten::{kind}.{operand}", f"torch.{kind}(x, {name})", truths=True)
        for kind in COMPARISONS
        for operand, name in (("Tensor", "y"), ("Scalar", "value"))
    ),
)
