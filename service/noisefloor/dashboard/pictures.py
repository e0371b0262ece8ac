"""Pictures that stand alone: a trend's chart, and the badge."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisefloor.contract.figure import Figure
from noisefloor.contract.trend import Trend
from noisefloor.contract.verdict import Verdict
from noisefloor.dashboard.chart import BARS, chart
from noisefloor.dashboard.rendering import text_of
from noisefloor.dashboard.words import decibels, edge_words, spaced

STYLE = Path(__file__).parent / "static" / "noisefloor.css"
# What XML 1.0 has no way to write; names of branches and places may have it.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CHAR_WIDTH, PADDING = 6.6, 12.0  # of Verdana at 11 px, in the mean
COLORS = {
    Verdict.PASS: "#17693a",
    Verdict.ACKNOWLEDGED: "#0d6570",
    Verdict.WARN: "#855000",
    Verdict.NO_BASELINE: "#5646ae",
    Verdict.ERROR: "#9b2a69",
    Verdict.REGRESSED: "#b0241c",
}
GREY = "#56606b"


@dataclass(frozen=True, kw_only=True)
class Badge:
    """What the badge says: two words of text, and the color behind the second."""

    label: str
    text: str
    color: str

    @property
    def label_width(self) -> float:
        return round(len(self.label) * CHAR_WIDTH + PADDING, 1)

    @property
    def text_width(self) -> float:
        return round(len(self.text) * CHAR_WIDTH + PADDING, 1)


def badge(label: str, verdict: Verdict | None, worst: Figure | None) -> str:
    """An SVG that says the verdict and the worst figure; without a verdict nothing was measured.

    The text tells all: color only repeats it.
    """
    said = spaced(verdict.value) if verdict is not None else "not measured"
    if worst is not None:
        said += f" · {decibels(worst)}{' dB' if worst.value is not None else ''}"
    color = COLORS.get(verdict, GREY) if verdict is not None else GREY
    return _drawn("badge.svg", badge=Badge(label=label, text=said, color=color))


def picture(trend: Trend) -> str:
    """The chart as a document of its own, with its style, light or dark as the reader prefers."""
    series = trend.series
    name = f"{series.subject} · {series.scheme} · {edge_words(series.edge)} · {series.engine}"
    return _drawn(
        "trend.svg",
        trend=trend,
        chart=chart(trend),
        name=name,
        path=f"/projects/{series.project}",
        bars=BARS,
        style=STYLE.read_text(encoding="utf-8"),
    )


def _drawn(template: str, **context: Any) -> str:
    """The picture as well-formed XML, whatever is said in it."""
    return NOT_XML.sub("\ufffd", text_of(template, **context))
