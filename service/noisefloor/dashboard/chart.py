"""The geometry of a trend's chart: from points to coordinates. Pure; the template draws them.

Over commits, points and gaps stand side by side; over time, each where its time is. Finite figures share one
axis with the floor; exact ones have a band above it, gaps and points without a figure a band below it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import unit
from noisefloor.contract.trend import Gap, Order, Trend, TrendPoint
from noisefloor.contract.verdict import Verdict
from noisefloor.dashboard.axis import SMALLEST_SPAN_DB, Axis, axis

WIDTH, LEFT, RIGHT, INSET = 960.0, 76.0, 944.0, 24.0
TOP, PLOT_HEIGHT, BAND_HEIGHT, FOOT_HEIGHT = 22.0, 230.0, 36.0, 26.0
LABEL_HEIGHT, ROW_HEIGHT = 18.0, 16.0
DATES = 6
CROWDED = 80

CIRCLE = "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z"
CROSS = "M-4.5,-4.5L4.5,4.5M-4.5,4.5L4.5,-4.5"
BARS = "M-3,-6v12M3,-6v12"
SHAPES = {
    Verdict.PASS: CIRCLE,
    Verdict.ACKNOWLEDGED: "M-5,-5h10v10h-10z",
    Verdict.WARN: "M0,-6.5L6,4.5H-6z",
    Verdict.NO_BASELINE: "M0,6.5L6,-4.5H-6z",
    Verdict.REGRESSED: "M0,-7L7,0L0,7L-7,0z",
    Verdict.ERROR: "M-6,-3h12v6h-12z",
    Verdict.PENDING: CIRCLE,
}


Slot = TrendPoint | Gap


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point of the trend, and where and how it is drawn."""

    x: float
    y: float
    path: str
    point: TrendPoint
    verdict: str


@dataclass(frozen=True, kw_only=True)
class GapMark:
    """A gap of the trend, and where it is drawn."""

    x: float
    y: float
    gap: Gap
    tone: str


@dataclass(frozen=True, kw_only=True)
class Label:
    """A word or a number at a place."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Floor:
    """A stretch of the line with one floor."""

    x1: float
    x2: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Everything the template draws."""

    width: float
    height: float
    left: float
    right: float
    top: float
    plot_top: float
    plot_bottom: float
    bottom: float
    scale: float
    ticks: tuple[Label, ...]
    bands: tuple[Label, ...]
    dates: tuple[Label, ...]
    floors: tuple[Floor, ...]
    floor_label: Label | None
    runs: tuple[str, ...]
    environment_changes: tuple[Label, ...]
    change_points: tuple[Label, ...]
    marks: tuple[Mark, ...]
    gaps: tuple[GapMark, ...]

    @property
    def verdicts(self) -> dict[str, str]:
        """For the legend: the shapes that occur, by verdict."""
        return {mark.verdict: mark.path for mark in self.marks if mark.path != CROSS}

    @property
    def crossed(self) -> bool:
        """Whether a point stands in the band without figures."""
        return any(mark.path == CROSS for mark in self.marks)


def chart(trend: Trend) -> Chart:
    """Lay out a trend."""
    points, slots = trend.points, _slots(trend)
    columns = _columns(slots, trend.x)
    xs = [x for x, slot in zip(columns, slots, strict=True) if isinstance(slot, TrendPoint)]
    values = [p.figure.value for p in points if p.figure.value is not None]
    floors_db = [p.floor_db for p in points if p.floor_db is not None]
    shown = [*values, *floors_db]
    scale = axis(shown, smallest_span=_smallest_span(trend.series.metric, shown)) if shown else None
    kinds = {p.figure.kind for p in points}
    has_exact = FigureKind.EXACT in kinds
    has_none = bool(trend.gaps or kinds - {FigureKind.EXACT, FigureKind.FINITE})

    top = TOP + ROW_HEIGHT * bool(trend.change_points)
    plot_top = top + BAND_HEIGHT * has_exact
    plot_bottom = plot_top + (PLOT_HEIGHT if scale else 0)
    bottom = plot_bottom + BAND_HEIGHT * has_none
    exact_y, none_y = top + BAND_HEIGHT / 2, plot_bottom + BAND_HEIGHT / 2
    ys = [_height(p, scale, plot_bottom, exact_y, none_y) for p in points]
    band_labels = [(has_exact, exact_y, "exact"), (has_none, none_y, "no figure")]
    floors = tuple(_floors(points, xs, scale, plot_bottom))
    marks = tuple(_mark(p, x, y) for p, x, y in zip(points, xs, ys, strict=True))
    return Chart(
        width=WIDTH,
        height=bottom + FOOT_HEIGHT,
        left=LEFT,
        right=RIGHT,
        top=top - 4,
        plot_top=plot_top,
        plot_bottom=plot_bottom,
        bottom=bottom,
        scale=0.6 if len(slots) > CROWDED else 1,
        ticks=_ticks(scale, plot_bottom, unit(trend.series.metric)),
        bands=tuple(Label(x=LEFT - 8, y=y, text=text) for shown, y, text in band_labels if shown),
        dates=tuple(_dates(slots, columns, trend.x, bottom + LABEL_HEIGHT)),
        floors=floors,
        floor_label=_floor_label(floors, floors_db, plot_top),
        runs=tuple(_runs(slots, marks)),
        environment_changes=tuple(
            Label(x=_between(xs, change.index), y=top - 8, text=f"E{number}")
            for number, change in enumerate(trend.environment_changes, start=1)
        ),
        change_points=tuple(
            Label(x=_between(xs, change.index), y=TOP - 8, text=f"C{number}")
            for number, change in enumerate(trend.change_points, start=1)
        ),
        marks=marks,
        gaps=tuple(_gaps(slots, columns, none_y)),
    )


def _smallest_span(metric: str, values: Sequence[float]) -> float:
    """What an axis covers at least: of dB always the same, of anything else a tenth of its size."""
    if unit(metric) == " dB":
        return SMALLEST_SPAN_DB
    return max(abs(value) for value in values) / 10 or 1.0


def _gaps(slots: Sequence[Slot], columns: Sequence[float], y: float) -> Iterator[GapMark]:
    for x, slot in zip(columns, slots, strict=True):
        if isinstance(slot, Gap):
            tone = "warn" if slot.status is CellStatus.UNSUPPORTED else "error"
            yield GapMark(x=x, y=y, gap=slot, tone=tone)


def _slots(trend: Trend) -> list[Slot]:
    """Points and gaps in their order."""
    slots: list[Slot] = []
    gaps = list(trend.gaps)
    for index, point in enumerate(trend.points):
        while gaps and gaps[0].before <= index:
            slots.append(gaps.pop(0))
        slots.append(point)
    return slots + gaps


def _columns(slots: Sequence[Slot], x: Order) -> list[float]:
    """One stands in the middle; more reach from end to end, at equal distances or as their times are."""
    count = len(slots)
    shares: Sequence[float] = [index / max(count - 1, 1) for index in range(count)]
    if x is Order.TIME and count > 1 and slots[-1].at > slots[0].at:
        shares = [(slot.at - slots[0].at) / (slots[-1].at - slots[0].at) for slot in slots]
    first, last = LEFT + INSET, RIGHT - INSET
    return [round(first + (last - first) * share, 2) for share in (shares if count > 1 else [0.5] * count)]


def _between(xs: Sequence[float], index: int) -> float:
    return round((xs[index - 1] + xs[index]) / 2, 2)


def _y(value: float, scale: Axis, plot_bottom: float) -> float:
    return round(plot_bottom - PLOT_HEIGHT * scale.share(value), 2)


def _height(
    point: TrendPoint, scale: Axis | None, plot_bottom: float, exact_y: float, none_y: float
) -> float:
    if point.figure.value is not None and scale is not None:
        return _y(point.figure.value, scale, plot_bottom)
    return exact_y if point.figure.kind is FigureKind.EXACT else none_y


def _mark(point: TrendPoint, x: float, y: float) -> Mark:
    verdict = point.verdict.value if point.verdict else "unjudged"
    path = SHAPES[point.verdict] if point.verdict else CIRCLE
    if point.figure.kind not in {FigureKind.FINITE, FigureKind.EXACT}:
        path = CROSS
    return Mark(x=x, y=y, path=path, point=point, verdict=verdict)


def _ticks(scale: Axis | None, plot_bottom: float, unit_text: str) -> tuple[Label, ...]:
    """The axis' numbers; the topmost one has the unit."""
    if scale is None:
        return ()
    units = {scale.ticks[-1]: unit_text}
    return tuple(
        Label(
            x=LEFT - 8,
            y=_y(tick, scale, plot_bottom),
            text=f"{tick:.{scale.decimals}f}{units.get(tick, '')}",
        )
        for tick in scale.ticks
    )


def _runs(slots: Sequence[Slot], marks: Sequence[Mark]) -> Iterator[str]:
    """Neighbouring finite points are joined; the line breaks at gaps and where there is no number."""
    drawn = iter(marks)
    together = [next(drawn) if isinstance(slot, TrendPoint) else None for slot in slots]
    for finite, run in groupby(together, key=_is_finite):
        if finite:
            yield " ".join(f"{mark.x:g},{mark.y:g}" for mark in run if mark is not None)


def _is_finite(mark: Mark | None) -> bool:
    return mark is not None and mark.point.figure.value is not None


def _floors(
    points: Sequence[TrendPoint], xs: Sequence[float], scale: Axis | None, plot_bottom: float
) -> Iterator[Floor]:
    """Stretches of one floor, each from half-way before its first point to half-way after its last."""
    for floor_db, run in groupby(range(len(points)), key=lambda index: points[index].floor_db):
        stretch = list(run)
        if floor_db is not None and scale is not None:
            yield Floor(
                x1=_between(xs, stretch[0]) if stretch[0] else LEFT,
                x2=_between(xs, stretch[-1] + 1) if stretch[-1] + 1 < len(xs) else RIGHT,
                y=_y(floor_db, scale, plot_bottom),
            )


def _floor_label(floors: Sequence[Floor], floors_db: Sequence[float], plot_top: float) -> Label | None:
    """The latest floor in words: above its line, or below it at the plot's upper edge."""
    if not floors:
        return None
    y = floors[-1].y
    return Label(
        x=floors[-1].x2 - 4,
        y=y - 6 if y - LABEL_HEIGHT > plot_top else y + LABEL_HEIGHT - 2,
        text=f"floor {floors_db[-1]:.3f} dB",
    )


def _dates(slots: Sequence[Slot], columns: Sequence[float], x: Order, y: float) -> Iterator[Label]:
    """A few dates: over commits those of commits, over time at equal distances."""
    shown = min(DATES, len(slots))
    shares = [number / max(shown - 1, 1) for number in range(shown)]
    if x is Order.TIME and slots[-1].at > slots[0].at:
        for share in shares:
            at = slots[0].at + share * (slots[-1].at - slots[0].at)
            place = columns[0] + share * (columns[-1] - columns[0])
            yield Label(x=round(place, 2), y=y, text=at.strftime("%Y-%m-%d"))
        return
    for index in sorted({round(share * (len(slots) - 1)) for share in shares}):
        yield Label(x=columns[index], y=y, text=slots[index].at.strftime("%Y-%m-%d"))
