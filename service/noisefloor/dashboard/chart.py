"""The geometry of a trend's chart: from points to coordinates. Pure; the template draws them.

Points stand side by side in the order of their commits. Finite figures share one axis with the floor;
exact ones have a band above it, those without a figure a band below it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.measurement import unit
from noisefloor.contract.resources import Trend, TrendPoint
from noisefloor.contract.verdict import Verdict
from noisefloor.dashboard.axis import SMALLEST_SPAN_DB, Axis, axis

WIDTH, LEFT, RIGHT, INSET = 960.0, 76.0, 944.0, 24.0
TOP, PLOT_HEIGHT, BAND_HEIGHT, FOOT_HEIGHT = 22.0, 230.0, 36.0, 26.0
LABEL_HEIGHT = 18.0
DATES = 6
CROWDED = 80

CIRCLE = "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z"
CROSS = "M-4.5,-4.5L4.5,4.5M-4.5,4.5L4.5,-4.5"
SHAPES = {
    Verdict.PASS: CIRCLE,
    Verdict.ACKNOWLEDGED: "M-5,-5h10v10h-10z",
    Verdict.WARN: "M0,-6.5L6,4.5H-6z",
    Verdict.NO_BASELINE: "M0,6.5L6,-4.5H-6z",
    Verdict.REGRESSED: "M0,-7L7,0L0,7L-7,0z",
    Verdict.ERROR: "M-6,-3h12v6h-12z",
    Verdict.PENDING: CIRCLE,
}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point of the trend, and where and how it is drawn."""

    x: float
    y: float
    path: str
    point: TrendPoint
    verdict: str


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
    marks: tuple[Mark, ...]

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
    points = trend.points
    xs = _columns(len(points))
    values = [p.figure.value for p in points if p.figure.value is not None]
    floors_db = [p.floor_db for p in points if p.floor_db is not None]
    shown = [*values, *floors_db]
    scale = axis(shown, smallest_span=_smallest_span(trend.series.metric, shown)) if shown else None
    kinds = {p.figure.kind for p in points}
    has_exact, has_none = FigureKind.EXACT in kinds, bool(kinds - {FigureKind.EXACT, FigureKind.FINITE})

    plot_top = TOP + BAND_HEIGHT * has_exact
    plot_bottom = plot_top + (PLOT_HEIGHT if scale else 0)
    bottom = plot_bottom + BAND_HEIGHT * has_none
    exact_y, none_y = TOP + BAND_HEIGHT / 2, plot_bottom + BAND_HEIGHT / 2
    ys = [_height(p, scale, plot_bottom, exact_y, none_y) for p in points]
    band_labels = [(has_exact, exact_y, "exact"), (has_none, none_y, "no figure")]
    floors = tuple(_floors(points, xs, scale, plot_bottom))
    return Chart(
        width=WIDTH,
        height=bottom + FOOT_HEIGHT,
        left=LEFT,
        right=RIGHT,
        plot_top=plot_top,
        plot_bottom=plot_bottom,
        bottom=bottom,
        scale=0.6 if len(points) > CROWDED else 1,
        ticks=_ticks(scale, plot_bottom, unit(trend.series.metric)),
        bands=tuple(Label(x=LEFT - 8, y=y, text=text) for shown, y, text in band_labels if shown),
        dates=tuple(_dates(points, xs, bottom + LABEL_HEIGHT)),
        floors=floors,
        floor_label=_floor_label(floors, floors_db, plot_top),
        runs=tuple(_runs(points, xs, ys)),
        environment_changes=tuple(
            Label(x=_between(xs, index), y=TOP - 8, text=f"E{number}")
            for number, index in enumerate(trend.environment_changes, start=1)
        ),
        marks=tuple(_mark(p, x, y) for p, x, y in zip(points, xs, ys, strict=True)),
    )


def _smallest_span(metric: str, values: Sequence[float]) -> float:
    """What an axis covers at least: of dB always the same, of anything else a tenth of its size."""
    if unit(metric) == " dB":
        return SMALLEST_SPAN_DB
    return max(abs(value) for value in values) / 10 or 1.0


def _columns(count: int) -> list[float]:
    """One point stands in the middle; more reach from end to end."""
    first, last = LEFT + INSET, RIGHT - INSET
    if count == 1:
        return [(first + last) / 2]
    return [round(first + (last - first) * index / (count - 1), 2) for index in range(count)]


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


def _runs(points: Sequence[TrendPoint], xs: Sequence[float], ys: Sequence[float]) -> Iterator[str]:
    """Neighbouring finite points are joined; the line breaks where there is no number."""
    together = zip(points, xs, ys, strict=True)
    for finite, run in groupby(together, key=lambda item: item[0].figure.value is not None):
        if finite:
            yield " ".join(f"{x:g},{y:g}" for _, x, y in run)


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


def _dates(points: Sequence[TrendPoint], xs: Sequence[float], y: float) -> Iterator[Label]:
    """A few dates, evenly spread."""
    shown = min(DATES, len(points))
    indices = sorted({round(number * (len(points) - 1) / max(shown - 1, 1)) for number in range(shown)})
    for index in indices:
        yield Label(x=xs[index], y=y, text=points[index].at.strftime("%Y-%m-%d"))
