"""Lines and comparisons as a person reads them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from noisefloor.cli.report import STYLES, screen
from noisefloor.contract.comparison import Comparison, Delta, Move, SeriesName
from noisefloor.contract.figure import Figure
from noisefloor.contract.measurement import SQNR, amount, unit
from noisefloor.contract.trend import Gap, Trend

REASON_CHARS = 60
SHOWN = 10
SECONDS = "%Y-%m-%d %H:%M:%S"


def print_trends(trends: Sequence[Trend]) -> None:
    """One table a series, oldest point first."""
    console = screen()
    for line in trends:
        s = line.series
        table = Table(
            title=f"{s.subject} · {s.scheme} · {s.edge} · {s.engine} · {s.place} · {s.metric}\n{s.key}",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        for heading in ("when (UTC)", "commit", _heading(s.metric), "floor", "verdict", "environment", "job"):
            table.add_column(heading, no_wrap=True)
        for row in _steps(line):
            table.add_row(*row)
        console.print(table)


def print_comparison(found: Comparison) -> None:
    """What moved, what only one of the commits has, and which environments differ."""
    console = screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("subject", "scheme", "edge", "engine", "place"):
        table.add_column(heading, overflow="fold")
    for heading in (found.base.sha[:9], found.head.sha[:9], "change", "layers that lost most"):
        table.add_column(heading, justify="left" if " " in heading else "right")
    for item in found.items:
        if item.move is not Move.SAME:
            table.add_row(*_moved(item))
    if table.row_count:
        console.print(table)
    numbers = ", ".join(f"{found.moves.get(move, 0)} {move.value}" for move in Move if found.moves.get(move))
    console.print(f"{found.coverage.common} series in common: {numbers or 'none'}")
    for number, which, names in (
        (found.coverage.only_base, "base", found.coverage.missing),
        (found.coverage.only_head, "head", found.coverage.added),
    ):
        if number:
            console.print(f"{number} series only in {which}:")
        for one in names:
            why = f" ({one.status.value}: {one.reason or 'no reason'})" if one.status else ""
            console.print(Text(f"  {_series(one.series)}{why}"))
    for change in found.environments:
        fields = ", ".join(map(str, change.fields)) or "not known"
        console.print(Text(f"environment of {change.series} series: {fields}"))


def nothing_matches(asked: Mapping[str, Any], there: Mapping[str, set[str]]) -> str:
    """What was looked for in vain, and what there is of it."""
    wanted = ", ".join(f"{name}={value}" for name, value in asked.items())
    known = "; ".join(f"there is {name}: {_few(values)}" for name, values in there.items())
    return f"no series match {wanted}; {known}"


def _few(values: set[str]) -> str:
    known = sorted(values)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return (", ".join(known[:SHOWN]) or "none") + more


def _moved(item: Delta) -> tuple[str | Text, ...]:
    name, style = item.series, {Move.WORSE: "bold red", Move.BETTER: "green"}.get(item.move, "")
    change = _signed(item.delta, name.metric) if item.delta is not None else item.move.value
    layers = ", ".join(f"{layer.name} −{layer.drop_db:.3f}" for layer in item.layers)
    figures = (_amount(side.figure, name.metric) for side in (item.base, item.head))
    lane = " ".join([name.engine, *([name.isa] if name.isa != "native" else [])])
    return name.subject, name.scheme, name.edge, lane, name.place, *figures, Text(change, style=style), layers


def _heading(metric: str) -> str:
    return "SQNR dB" if metric == SQNR else f"{metric}{unit(metric)}"


def _amount(figure: Figure, metric: str) -> str:
    """As elsewhere; of what may be near 1, such as a share, so many digits that small changes are seen."""
    return amount(figure, metric) if figure.value is None or unit(metric) else f"{figure.value:.8g}"


def _signed(value: float, metric: str) -> str:
    return f"{value:+.3f}" if unit(metric) == " dB" else f"{value:+.4g}"


def _series(name: SeriesName) -> str:
    lane = " ".join([name.engine, *([name.isa] if name.isa != "native" else [])])
    return f"{name.subject} · {name.scheme} · {name.edge} · {lane} · {name.place}"


def _steps(line: Trend) -> Iterator[tuple[str | Text, ...]]:
    """A row for each point and each gap, in order."""
    moved = {change.index for change in line.environment_changes}
    shifts = {
        change.index: f" (level {_signed(change.change, line.series.metric)})"
        for change in line.change_points
    }
    gaps = list(line.gaps)
    for number, point in enumerate(line.points):
        while gaps and gaps[0].before <= number:
            yield _gap(gaps.pop(0))
        yield (
            point.at.strftime(SECONDS),
            (point.sha or "–")[:10],
            f"{_amount(point.figure, line.series.metric)}{shifts.get(number, '')}",
            "" if point.floor_db is None else f"{point.floor_db:.3f}",
            Text(point.verdict.value, style=STYLES[point.verdict]) if point.verdict else Text("–"),
            f"{(point.environment or '–')[:8]}{' changed' if number in moved else ''}",
            point.job_id,
        )
    yield from map(_gap, gaps)


def _gap(gap: Gap) -> tuple[str, ...]:
    """Why there is no figure."""
    reason = (gap.reason or "").partition("\n")[0][:REASON_CHARS]
    return gap.at.strftime(SECONDS), (gap.sha or "–")[:10], gap.status.value, "", reason, "", gap.job_id
