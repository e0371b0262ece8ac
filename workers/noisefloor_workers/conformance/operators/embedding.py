"""Embeddings and their bags at 8, 4 and 2 bits, and what packs float rows into them.

Each row has a scale and a bias of its own: float32 at 8 bits, float16 below, which the numbers here fit
exactly. So does a sum of a bag fit float32, in whichever order it is taken.
"""

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Literal

import torch

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.draw import Draw
from noisefloor_workers.conformance.given import Given
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

Kind = Literal["embedding", "sum", "mean"]
Bits = Literal[8, 4, 2]
NAMES: dict[Bits, str] = {8: "byte", 4: "4bit", 2: "2bit"}
# scales are whole numbers of these, and weights of samples of eighths
UNIT = 2.0**-13
SAMPLE_STEPS = 8
MODES: dict[Kind, int] = {"sum": 0, "mean": 1}

# rows with their scale and bias behind the codes, as the kernels take them
ROWS: dict[Bits, str] = {
    8: "torch.cat([codes.to(torch.uint8), scale.view(torch.uint8), bias.view(torch.uint8)], 1)",
    4: (
        "torch.cat([(codes[:, ::2] + 16 * codes[:, 1::2]).to(torch.uint8), "
        "scale.half().view(torch.uint8), bias.half().view(torch.uint8)], 1)"
    ),
    2: (
        "torch.cat([(codes[:, ::4] + 4 * codes[:, 1::4] + 16 * codes[:, 2::4] + 64 * codes[:, 3::4])"
        ".to(torch.uint8), scale.half().view(torch.uint8), bias.half().view(torch.uint8)], 1)"
    ),
}
# a tensor with a scale and a zero point for each row, packed
PACKED: dict[Bits, str] = {
    8: (
        "torch.ops.quantized.embedding_bag_prepack(torch._make_per_channel_quantized_tensor("
        "codes.to(torch.uint8), scale.flatten(), zero.flatten(), 0))"
    ),
    4: (
        "torch.ops.quantized.embedding_bag_prepack(torch.quantize_per_channel("
        "(codes - zero) * scale, scale.flatten(), zero.flatten(), 0, torch.quint4x2))"
    ),
}
VALUES = "(codes * scale_real + bias_real)"
GRID = (
    # rows, length of a row, and of each bag
    ((1,), (4,), (1,)),
    ((5,), (8,), (1, 2, 3)),
    ((5,), (8,), (0, 2, 0)),
    ((7,), (12,), ()),
    ((9,), (36,), (4, 1)),
    ((33,), (132,), (1,) * 6),
)
LARGER = (((257,), (64,), (16, 3)), ((3,), (516,), (2, 2)))


def cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Tables × bags × values."""
    for (rows, dim, bags), values in product(GRID if quick else GRID + LARGER, ("seven_bit", "extreme")):
        yield Case.model_validate(
            {"op": name, "sizes": {"rows": rows, "dim": dim, "bags": bags}, "values": values}
        )


def pose(case: Case, *, bits: Bits, kind: Kind, weighted: bool) -> Posed:
    """Codes [rows, dim]; scale and bias [rows, 1]; indices [in all bags]; offsets [bags]."""
    draw, sizes = Draw(case), case.sizes
    ((rows,), (dim,)) = sizes["rows"], sizes["dim"]
    if dim % 4:
        raise InvalidCase("codes of 2 bits fill a byte by four")
    high = 2**bits - 1
    codes = draw.integers(0, 3, (rows, dim)).clamp(max=1) * high
    if case.values != "extreme":
        codes = draw.integers(0, high, (rows, dim))
    steps = draw.integers(64, 127, (rows, 1)) * 2 ** draw.integers(0, 2, (rows, 1))
    zero = draw.integers(0, high, (rows, 1))
    lengths = torch.tensor(sizes["bags"], dtype=torch.int64)
    indices = draw.integers(0, rows - 1, (int(lengths.sum()),))
    values = codes * steps - zero * steps
    given: dict[str, Given] = {
        "codes": codes,
        "scale": (steps * UNIT).float(),
        "bias": (-zero * steps * UNIT).float(),
        "zero": zero.float(),
        "indices": indices,
    }
    if kind == "embedding":
        return _posed(given, values[indices].double(), UNIT)
    given["offsets"] = lengths.cumsum(0) - lengths
    seen = values[indices]
    if weighted:
        eighths = draw.integers(-SAMPLE_STEPS, SAMPLE_STEPS, (len(indices),))
        given["samples"] = (eighths / SAMPLE_STEPS).float()
        seen = seen * eighths[:, None]
    bag = torch.arange(len(lengths)).repeat_interleave(lengths)
    real = torch.zeros(len(lengths), dim, dtype=torch.int64).index_add(0, bag, seen).double()
    if kind == "mean":
        real = real / lengths.clamp(min=1)[:, None]
    return _posed(given, real, UNIT / SAMPLE_STEPS if weighted else UNIT)


def _posed(given: dict[str, Given], real: torch.Tensor, step: float) -> Posed:
    exact = Exact(real=real, magnitude=real.abs(), low=-torch.inf, high=torch.inf)
    return Posed(givens=given, exact=exact, step=step, form="floats")


def prepack_cases(name: str, quick: bool) -> Iterable[Case]:  # noqa: FBT001 - as an operator's `cases`
    """Tables of rows."""
    for rows, dim in product(((1,), (3,), (17,)), ((4,), (8,), (36,)) if quick else ((4,), (36,), (516,))):
        yield Case(op=name, sizes={"rows": rows, "dim": dim}, values="full")


def pose_prepack(case: Case, *, bits: Bits) -> Posed:
    """Float rows [rows, dim], a quarter of a step beside their codes, from end to end of the range."""
    draw = Draw(case)
    ((rows,), (dim,)) = case.sizes["rows"], case.sizes["dim"]
    if dim % 4:
        raise InvalidCase("codes of 2 bits fill a byte by four")
    high = 2**bits - 1
    quarters = 4 * draw.integers(0, high, (rows, dim)) + draw.integers(-1, 1, (rows, dim))
    quarters = quarters.clamp(0, 4 * high)
    quarters[:, 0], quarters[:, -1] = 0, 4 * high
    scale = draw.integers(64, 127, (rows, 1)).double() * UNIT
    real = quarters.double() / 4 - draw.integers(0, high, (rows, 1))
    x = (real * scale).float()
    exact = Exact(real=real, magnitude=real.abs() + high, low=-torch.inf, high=torch.inf)
    given: dict[str, Given] = {"x": x, "ends": torch.stack([x.amin(1), x.amax(1)], 1)}
    return Posed(givens=given, exact=exact, step=scale, form="floats")


def _embedding(bits: Bits) -> Operator:
    name = f"quantized::embedding_{NAMES[bits]}"
    return Operator(
        name=name,
        call=f"torch.ops.quantized.embedding_{NAMES[bits]}({PACKED[bits]}, indices)",
        formula=f"{VALUES}[indices]",
        cases=partial(cases, name),
        pose=partial(pose, bits=bits, kind="embedding", weighted=False),
    )


def _bag(bits: Bits, kind: Kind, *, rows: bool, weighted: bool = False) -> Operator:
    name = f"quantized::embedding_bag_{NAMES[bits]}" + ("_rowwise_offsets" if rows else "")
    table = ROWS[bits] if rows else PACKED[bits]
    extra = "weighted" if weighted else kind if kind != "sum" else ""
    title = f"{name} ({extra})" if extra else name
    samples, samples_real = ("samples", "samples_real") if weighted else ("None", "None")
    call = name.replace("::", ".")
    return Operator(
        name=title,
        call=f"torch.ops.{call}({table}, indices, offsets, False, {MODES[kind]}, False, {samples})",
        formula=(
            f"torch.nn.functional.embedding_bag(indices, {VALUES}, offsets, mode={kind!r}, "
            f"per_sample_weights={samples_real})"
        ),
        cases=partial(cases, title),
        pose=partial(pose, bits=bits, kind=kind, weighted=weighted),
    )


def _prepack(bits: Bits, suffix: str) -> Operator:
    name = f"quantized::embedding_bag_{NAMES[bits]}_prepack{suffix}"
    ends = ", ends" if suffix else ""
    unpack = f"embedding_bag_{NAMES[bits]}_unpack"
    return Operator(
        name=name,
        call=f"torch.ops.quantized.{unpack}(torch.ops.{name.replace('::', '.')}(x{ends}))",
        formula="x_real",
        cases=partial(prepack_cases, name),
        pose=partial(pose_prepack, bits=bits),
        covers=(name, f"quantized::{unpack}"),
    )


ALL_BITS: tuple[Bits, ...] = (8, 4, 2)
PACKED_BITS: tuple[Bits, ...] = (8, 4)
OPERATORS = (
    *(_embedding(bits) for bits in PACKED_BITS),
    *(_bag(bits, "sum", rows=False) for bits in PACKED_BITS),
    *(_bag(bits, "sum", rows=True) for bits in ALL_BITS),
    *(_bag(bits, "sum", rows=True, weighted=True) for bits in ALL_BITS),
    *(_bag(bits, "mean", rows=True) for bits in ALL_BITS),
    *(_prepack(bits, suffix) for bits, suffix in product(ALL_BITS, ("", "_with_rowwise_min_max"))),
)
