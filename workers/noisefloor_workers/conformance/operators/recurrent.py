"""LSTM, GRU and plain recurrent cells whose linear parts are quantized dynamically, or are in float16.

There is no empty batch among the cases: it has no range to be quantized by.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Literal

import torch

from noisefloor.contract.conformance import Case
from noisefloor.contract.lane import QUANTIZED_ENGINES, Engine
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Given, Quantized
from noisefloor_workers.conformance.operators import linear
from noisefloor_workers.conformance.operators.gates import GATES, Kind, Part, recurrent
from noisefloor_workers.conformance.operators.linear import REDUCING, VALUES
from noisefloor_workers.conformance.operators.operator import Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

Precision = Literal["eight_bit", "reduce_range", "float16"]
# The gates are in float32, each a few units in its last place off; a code that is off moves them by hundreds
STEP = 2.0**-16
BOUND_LSB = 1.0
# of weights that leave gates half open: what a drawn scale is multiplied with, and the scale in float16
SMALL, HALF_SCALE = 2.0**-4, 2.0**-9
BIAS_STEPS = 64
SIZES = (
    # time, batch, inputs, hidden
    (1, 1, 2, 2),
    (1, 2, 3, 2),
    (3, 1, 5, 4),
    (4, 3, 8, 8),
    (2, 2, 17, 9),
)
LARGER = ((8, 2, 33, 16), (5, 5, 64, 31))

PRELUDE = '''\
def quantized(x, high):
    """Dynamic quantization and back; not at all where there is no highest code."""
    if high is None:
        return x
    low, top = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (top - low) / high
    zero = (-low / scale).round()
    return ((x / scale).round() + zero).clamp(0, high).sub(zero) * scale


def moment(kind, x, h, c):
    if kind == "lstm":
        i, f, g, o = (x + h).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
    if kind == "gru":
        (xr, xz, xn), (hr, hz, hn) = x.chunk(3, 1), h.chunk(3, 1)
        z = (xz + hz).sigmoid()
        return (1 - z) * (xn + (xr + hr).sigmoid() * hn).tanh() + z * c, None
    return ((x + h).tanh() if kind == "rnn_tanh" else (x + h).relu()), None


def direction(kind, high, x, h, c, w, v, b, d):
    outputs = []
    x = torch.nn.functional.linear(quantized(x, high), w, b)
    for at in x:
        gates = torch.nn.functional.linear(quantized(h, high), v, d)
        h, c = moment(kind, at, gates, c if kind == "lstm" else h)
        outputs.append(h)
    return torch.stack(outputs), h, c


def recurrent(kind, high, x, h, c, cells, both):
    """Every output, then the last hidden states, then the last cell states, in one row."""
    hidden, states = [], []
    for number in range(0, len(cells), 1 + both):
        outputs = []
        for way, cell in enumerate(cells[number : number + 1 + both]):
            seen = x.flip(0) if way else x
            at = number + way
            out, last, state = direction(kind, high, seen, h[at], c[at] if kind == "lstm" else None, *cell)
            outputs.append(out.flip(0) if way else out)
            hidden.append(last)
            states.append(state)
        x = torch.cat(outputs, 2)
    last = hidden + (states if kind == "lstm" else [])
    return torch.cat([one.flatten() for one in (x, *last)])
'''


def cases(name: str, quick: bool, *, single: bool, precision: Precision) -> Iterable[Case]:  # noqa: FBT001
    """Lengths × values; a cell takes one moment."""
    for number, lengths in enumerate(SIZES if quick else SIZES + LARGER):
        time, batch, inputs, hidden = lengths
        sizes = {
            "time": (1 if single else time,),
            "batch": (batch,),
            "inputs": (inputs,),
            "hidden": (hidden,),
        }
        for values in ("full",) if precision == "float16" else VALUES:
            yield Case.model_validate({"op": name, "sizes": sizes, "values": values, "seed": number})
        if precision != "float16":
            yield Case(op=name, sizes=sizes, per_channel=True, seed=number)


def pose(case: Case, *, kind: Kind, precision: Precision, layers: int, ways: int, single: bool) -> Posed:
    """X [time, batch, inputs], h and c [layers · ways, batch, hidden]; a cell has neither first axis."""
    draw = Draw(case)
    time, batch, inputs, hidden = (case.sizes[name][0] for name in ("time", "batch", "inputs", "hidden"))
    reduced = precision == "reduce_range"
    high = None if precision == "float16" else 127 if reduced else 255
    x = linear.floats(linear.spanning(draw, (time, batch, inputs), reduce_range=reduced))
    states = [
        linear.floats(linear.spanning(draw, (batch, hidden), reduce_range=reduced))
        for _ in range(layers * ways * 2)
    ]
    h, c = torch.stack(states[::2]), torch.stack(states[1::2])
    cells = []
    for number in range(layers * ways):
        seen = inputs if number < ways else hidden * ways
        rows = GATES[kind] * hidden
        cells.append(tuple(_cell(draw, rows, width, precision=precision) for width in (seen, hidden)))
    real = recurrent(kind, high, x.double(), h.double(), c.double(), cells=cells, ways=ways)
    given: dict[str, Given] = {"x": x[0], "h": h[0], "c": c[0]} if single else {"x": x, "h": h, "c": c}
    for number, parts in enumerate(cells):
        for names, (w, b) in zip(("wb", "vd"), parts, strict=True):
            given[f"{names[0]}{number}"] = linear.floats(w) if high is None else w
            given[f"{names[1]}{number}"] = b
    if single:
        real = real[x[0].shape[0] * hidden :]
    exact = Exact(real=real / STEP, magnitude=torch.zeros_like(real), low=-torch.inf, high=torch.inf)
    return Posed(givens=given, exact=exact, step=STEP, form="floats")


def _cell(draw: Draw, rows: int, width: int, *, precision: Precision) -> Part:
    """A weight [rows, width], small enough to leave the gates half open, and its bias [rows]."""
    w = linear.weight(draw, (rows, width))
    if precision == "float16":
        w = Quantized(codes=w.codes, scale=HALF_SCALE, zero_point=0)
    else:
        scale = w.scale * SMALL if isinstance(w.scale, float) else tuple(one * SMALL for one in w.scale)
        w = linear.weight_under(draw, replace(w, scale=scale), reduce_range=precision == "reduce_range")
    return w, draw.integers(-BIAS_STEPS, BIAS_STEPS, (rows,)).float() / BIAS_STEPS


def _formula(kind: Kind, precision: Precision, cells: int, *, both: bool, single: bool) -> str:
    high = {"float16": None, "reduce_range": 127, "eight_bit": 255}[precision]
    each = ", ".join(f"(w{n}_real, v{n}_real, b{n}_real, d{n}_real)" for n in range(cells))
    moment = "[None]" if single else ""
    states = ", ".join(f"{name}_real{moment}" for name in "xhc")
    whole = f"recurrent({kind!r}, {high}, {states}, [{each}], {both})"
    return f"{whole}[h_real.numel() :]" if single else whole


PREPACK = "torch.ops.quantized.linear_prepack({w}, {b})"
Form = Literal["", "bidirectional", "2 layers"]


def _layers(kind: Kind, precision: Precision, form: Form = "") -> Operator:
    words = ", ".join(word for word in (form, precision if precision != "eight_bit" else "") if word)
    name = f"aten::quantized_{kind}" + (f" ({words})" if words else "")
    both = form == "bidirectional"
    layers, ways = 2 if form == "2 layers" else 1, 1 + both
    packed = ", ".join(_params(number, precision) for number in range(layers * ways))
    state = "[h, c]" if kind == "lstm" else "h"
    call = f"torch.quantized_{kind}(x, {state}, [{packed}], True, {layers}, 0.0, False, {both}, False)"
    return Operator(
        name=name,
        call=f"torch.cat([one.flatten() for one in {call}])",
        formula=_formula(kind, precision, layers * ways, both=both, single=False),
        prelude=PRELUDE,
        cases=partial(cases, name, single=False, precision=precision),
        pose=partial(pose, kind=kind, precision=precision, layers=layers, ways=ways, single=False),
        engines=REDUCING if precision == "reduce_range" else QUANTIZED_ENGINES,
        bound_lsb=BOUND_LSB,
        covers=(f"aten::quantized_{kind}.input",),
    )


def _params(number: int, precision: Precision) -> str:
    w, b, v, d = (f"{name}{number}" for name in "wbvd")
    if precision == "float16":
        packed = ", ".join(f"torch.ops.quantized.linear_prepack_fp16({w}, {b})" for w, b in ((w, b), (v, d)))
        return f"torch.ops.quantized.make_quantized_cell_params_fp16({packed})"
    packed = f"{PREPACK.format(w=w, b=b)}, {PREPACK.format(w=v, b=d)}, {b}, {d}"
    reduced = precision == "reduce_range"
    return f"torch.ops.quantized.make_quantized_cell_params_dynamic({packed}, {reduced})"


def _single(kind: Kind, precision: Precision) -> Operator:
    """A cell: it reduces the range, but on QNNPACK, which cannot."""
    registered = f"quantized::quantized_{kind}_cell_dynamic"
    name = registered + (" (eight_bit)" if precision == "eight_bit" else "")
    packed = f"{PREPACK.format(w='w0', b='b0')}, {PREPACK.format(w='v0', b='d0')}, b0, d0"
    call = f"torch.ops.{registered.replace('::', '.')}(x, {'[h, c]' if kind == 'lstm' else 'h'}, {packed})"
    engines: tuple[Engine, ...] = ("qnnpack",)
    return Operator(
        name=name,
        call=f"torch.cat([one.flatten() for one in {call}])" if kind == "lstm" else f"{call}.flatten()",
        formula=_formula(kind, precision, 1, both=False, single=True),
        prelude=PRELUDE,
        cases=partial(cases, name, single=True, precision=precision),
        pose=partial(pose, kind=kind, precision=precision, layers=1, ways=1, single=True),
        engines=engines if precision == "eight_bit" else REDUCING,
        bound_lsb=BOUND_LSB,
        covers=(registered,),
    )


LAYERED: tuple[Kind, ...] = ("lstm", "gru")
PRECISIONS: tuple[Precision, ...] = ("eight_bit", "reduce_range", "float16")
FORMS: tuple[Form, ...] = ("bidirectional", "2 layers")
CELLS: tuple[Precision, ...] = ("reduce_range", "eight_bit")
OPERATORS = (
    *(_layers(kind, precision) for kind, precision in product(LAYERED, PRECISIONS)),
    *(_layers(kind, "eight_bit", form) for kind, form in product(LAYERED, FORMS)),
    *(_single(kind, precision) for kind, precision in product(GATES, CELLS)),
)
