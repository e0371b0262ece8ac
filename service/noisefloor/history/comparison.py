"""What became of a figure from one commit to another."""

from collections.abc import Iterator

from noisefloor.contract.comparison import LayerLoss, Move
from noisefloor.contract.figure import Figure, FigureKind, within
from noisefloor.contract.layers import LayerReport

RANKS = {FigureKind.EXACT: 2, FigureKind.FINITE: 1}
ORDER = tuple(Move)
NOTICEABLE_DB = 0.05
LAYERS = 3


def move(base: Figure, head: Figure, metric: str) -> Move:
    """Exact is better than a number, and a number than none; of numbers more is better, where it is at all.

    >>> move(Figure.of(FigureKind.EXACT), Figure.finite(60.0), "sqnr_db").value
    'worse'
    """
    if base == head:
        return Move.SAME
    ranks = RANKS.get(base.kind, 0), RANKS.get(head.kind, 0)
    better = ranks[1] - ranks[0] or ((head.value or 0.0) - (base.value or 0.0))
    if not better or not _more_is_better(metric):
        return Move.CHANGED
    return Move.BETTER if better > 0 else Move.WORSE


def delta(base: Figure, head: Figure) -> float | None:
    """Head less base, in the metric's unit; None unless both are numbers."""
    if head.value is None or base.value is None:
        return None
    return within(head.value) - within(base.value)


def gravity(base: Figure, head: Figure, metric: str) -> tuple[float, ...]:
    """Sorts the largest loss first: no figure any more, no longer exact, and then by decibels."""
    by = delta(base, head)
    return ORDER.index(move(base, head, metric)), RANKS.get(head.kind, 0), by is not None, by or 0.0


def losses(before: LayerReport, after: LayerReport) -> tuple[LayerLoss, ...]:
    """The layers whose own SQNR dropped most between two reports of one edge, at most three."""
    return tuple(sorted(_losses(before, after), key=lambda one: -one.drop_db)[:LAYERS])


def _losses(before: LayerReport, after: LayerReport) -> Iterator[LayerLoss]:
    earlier = {layer.name: layer.local for layer in before.layers}
    for layer in after.layers:
        was = earlier.get(layer.name)
        by = delta(was, layer.local) if was is not None else None
        if was is not None and by is not None and -by > NOTICEABLE_DB:
            yield LayerLoss(name=layer.name, before=was, after=layer.local, drop_db=-by)


def _more_is_better(metric: str) -> bool:
    return metric.endswith("_db") or metric == "coverage"
