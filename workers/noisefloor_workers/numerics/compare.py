"""From two model outputs to measurements: one pooled, and one for each leaf."""

import hashlib

import torch
from torch import Tensor

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.measurement import OUTPUT, Measurement
from noisefloor.contract.scheme import Edge
from noisefloor.contract.sums import Sums
from noisefloor_workers.numerics.accumulate import accumulate, sqnr_db_of
from noisefloor_workers.numerics.comparable import difference, is_measurable
from noisefloor_workers.numerics.digest import DIGEST_BYTES, output_digest, raw_bytes
from noisefloor_workers.numerics.leaves import LeafPair, StructureMismatch, leaves, pairs
from noisefloor_workers.numerics.spread import spread

TEXT_CHARS = 512
# Where the edge itself is a change of precision, the narrower side is widened, which is exact.
ACROSS_PRECISIONS: frozenset[Edge] = frozenset({"float64->float32", "float64->fake", "float64->true"})
WIDENED = {(torch.float32, torch.float64), (torch.complex64, torch.complex128)}


def compare(
    *, edge: Edge, ref: object, actual: object, step: float | None = None, batch: int | None = None
) -> tuple[Measurement, ...]:
    """Measure a model's output against its reference output.

    A bare tensor gives one measurement, at `output`. Any other structure gives the pooled one at
    `output` first and then one per leaf, in the reference's order. Nothing is broadcast, promoted or
    cut off: outputs that differ in structure, shape or dtype give `mismatch` with a note, the pooled
    one too. Only where the edge is a change of precision (from `float64`) is the narrower side
    widened. Integer and bool leaves give `not_applicable` with the share of equal elements; they do
    not enter the pooled sums, but an output of nothing else has its pooled share.
    `step`: the output's quantization step in its unit, used where the output has one measurable leaf,
    since leaves have steps of their own. `batch`: number of samples along dim 0, see `spread`.
    Dtypes: a quantized tensor counts as float32. Errors: a ValueError for a step that is used and is
    not positive and finite; none for what the outputs hold.

    >>> (found,) = compare(edge="fake->true", ref=torch.tensor([3.0, 4.0]), actual=torch.tensor([3.0, 3.5]))
    >>> found.place, str(found.figure)
    ('output', '20.000')
    """
    digest = output_digest(leaves(actual))
    found = pairs(ref=ref, actual=actual)
    if isinstance(found, StructureMismatch):
        return (_mismatch(edge, OUTPUT, found.note, digest),)
    if sum(isinstance(pair.ref, Tensor) and is_measurable(pair.ref) for pair in found) != 1:
        step = None
    measured = tuple(_leaf(edge, pair, step, batch) for pair in found)
    if [pair.place for pair in found] == [OUTPUT]:
        return measured
    return (_pooled(edge, found, measured, digest), *measured)


def _leaf(edge: Edge, pair: LeafPair, step: float | None, batch: int | None) -> Measurement:
    place, ref, actual = short_place(pair.place), pair.ref, pair.actual
    digest = output_digest([(pair.place, actual)])
    if not (isinstance(ref, Tensor) and isinstance(actual, Tensor)):
        return Measurement(
            edge=edge, place=place, figure=Figure.of(FigureKind.NOT_APPLICABLE), output_digest=digest
        )
    if edge in ACROSS_PRECISIONS and (actual.dtype, ref.dtype) in WIDENED:
        actual = actual.to(ref.dtype)
    differs = difference(ref=ref, actual=actual)
    if differs:
        return _mismatch(edge, place, differs, digest)
    if not is_measurable(ref):
        return Measurement(
            edge=edge,
            place=place,
            figure=Figure.of(FigureKind.NOT_APPLICABLE),
            match_rate=_match_rate([pair]),
            output_digest=digest,
        )
    sums = accumulate(ref=ref, actual=actual)
    return Measurement(
        edge=edge,
        place=place,
        figure=sqnr_db_of(sums),
        sums=sums,
        spread=spread(ref=ref, actual=actual, step=step, batch=batch),
        output_digest=digest,
    )


def _pooled(edge: Edge, found: list[LeafPair], measured: tuple[Measurement, ...], digest: str) -> Measurement:
    differing = [f"{m.place}: {m.note}" for m in measured if m.figure.kind is FigureKind.MISMATCH]
    if differing:
        return _mismatch(edge, OUTPUT, "; ".join(differing), digest)
    summed = [m.sums for m in measured if m.sums is not None]
    if not summed:
        return Measurement(
            edge=edge,
            figure=Figure.of(FigureKind.NOT_APPLICABLE),
            match_rate=_match_rate(found),
            output_digest=digest,
        )
    pooled = sum(summed, start=Sums())
    return Measurement(edge=edge, figure=sqnr_db_of(pooled), sums=pooled, output_digest=digest)


def _mismatch(edge: Edge, place: str, note: str, digest: str) -> Measurement:
    return Measurement(
        edge=edge,
        place=place,
        figure=Figure.of(FigureKind.MISMATCH),
        note=note[:TEXT_CHARS],
        output_digest=digest,
    )


def _match_rate(found: list[LeafPair]) -> float | None:
    """The share of equal elements over leaves of equal shape and dtype; None where there is none."""
    equal = torch.cat(
        [
            (raw_bytes(pair.ref) == raw_bytes(pair.actual)).all(dim=1)
            for pair in found
            if isinstance(pair.ref, Tensor) and isinstance(pair.actual, Tensor)
        ]
        or [torch.empty(0, dtype=torch.bool)]
    )
    return int(equal.sum()) / equal.numel() if equal.numel() else None


def short_place(place: str) -> str:
    """A place that fits its field: a long one ends in a digest, so that two of them stay apart."""
    if len(place) <= TEXT_CHARS:
        return place
    tail = hashlib.blake2b(place.encode(), digest_size=DIGEST_BYTES).hexdigest()
    return f"{place[: TEXT_CHARS - len(tail) - 1]}~{tail}"
