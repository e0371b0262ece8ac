"""Bisecting: which step is measured next, given what is told, and what follows. Pure.

The command and the service share it: they only differ in how a step is measured.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import Field

from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.bisection import Bisection, Over, Step
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.gate.attribution import NOTICEABLE_DB

EXACT = Figure.of(FigureKind.EXACT)
NOTHING_QUANTIZED = "(no layer is quantized)"
SHOWN_NAME = 12
ENDS = 2
Told = Mapping[int, bool | None]
Figures = Mapping[str, Figure]


def next_step(last: int, told: Told) -> int | None:
    """The step to measure next between step 0, which is good, and step `last`, which is bad.

    None at the end. About log2(last) steps; each that cannot be told costs one more.

    >>> next_step(10, {}), next_step(10, {5: False}), next_step(2, {1: True})
    (5, 7, None)
    """
    good, bad = _bounds(last, told)
    open_steps = [step for step in range(good + 1, bad) if step not in told]
    return min(open_steps, key=lambda step: (abs(step - (good + bad) / 2), step), default=None)


def candidates(last: int, told: Told) -> tuple[int, ...]:
    """The steps that may be the first bad one: several where steps beside it could not be told.

    >>> candidates(4, {2: None, 3: True, 1: False})
    (2, 3)
    """
    good, bad = _bounds(last, told)
    return tuple(range(good + 1, bad + 1))


def _bounds(last: int, told: Told) -> tuple[int, int]:
    bad = min((step for step, is_bad in told.items() if is_bad), default=last)
    return max((step for step, is_bad in told.items() if is_bad is False and step < bad), default=0), bad


class Measured(Value):
    """What a step gave: a figure of each output, or why there is none."""

    figures: dict[str, Figure] = Field(default_factory=dict)
    note: LongText | None = None
    unsupported: bool = Field(default=False, description="the lane has no such thing: another try is in vain")


class Steps(Value):
    """The steps of a bisection, and what was measured so far."""

    over: Over
    names: tuple[Text, ...]
    titles: dict[str, Text] = Field(default_factory=dict)
    below_db: float | None = None
    measured: dict[int, Measured] = Field(default_factory=dict)

    def with_step(self, step: int, found: Measured) -> Self:
        """The same when one more step is measured."""
        return self.replace(measured={**self.measured, step: found})

    def due(self) -> tuple[int, ...]:
        """The steps that can be measured now; none at the end."""
        raise NotImplementedError

    def ends(self, series: str) -> tuple[Figure, Figure] | None:
        """The good and the bad figure that the others are held against; None before they are known."""
        raise NotImplementedError

    def trouble(self) -> str | None:
        """Why nothing can be found, once that is known."""
        raise NotImplementedError

    def result(self) -> Bisection:
        """What was found, once nothing is due and there is no trouble."""
        raise NotImplementedError

    @property
    def series(self) -> str | None:
        """The output that loses most between the ends; None before they are known."""
        keys = {key for found in self.measured.values() for key in found.figures}
        spread = {key: lost(*ends) for key in keys if (ends := self.ends(key)) is not None}
        return max(spread, key=lambda key: (spread[key], key), default=None)

    def steps(self) -> tuple[Step, ...]:
        """What was measured, in order."""
        return tuple(self.step(at) for at in sorted(self.measured))

    def step(self, at: int) -> Step:
        """One step as it is shown."""
        found, series = self.measured.get(at, Measured()), self.series
        return Step(
            name=self.names[at],
            title=self.titles.get(self.names[at], ""),
            figure=found.figures.get(series) if series is not None else None,
            bad=self.is_bad(at),
            note=found.note,
        )

    def is_bad(self, step: int) -> bool | None:
        """Whether a step is bad; None where it cannot be told."""
        series = self.series
        figure = self.measured.get(step, Measured()).figures.get(series or "")
        ends = self.ends(series) if series is not None else None
        return is_bad(figure, *ends, self.below_db) if figure is not None and ends is not None else None


class Search(Steps):
    """An ordered run of steps, the first one good and the last one bad."""

    had: Figure | None = Field(default=None, description="over layers: what the whole job was measured as")

    @property
    def first(self) -> int:
        """The good end."""
        return self._left[0]

    @property
    def last(self) -> int:
        """The bad end."""
        return self._left[-1]

    @property
    def at_ends(self) -> bool:
        """Whether the ends are measured, and nothing between them."""
        between = range(self.first, self.last + 1)
        return {at for at in self.measured if at in between} == {self.first, self.last}

    def due(self) -> tuple[int, ...]:
        """The next step, the ends first."""
        if self.trouble() is not None:
            return ()
        for end in (self.last, self.first):
            if end not in self.measured:
                return (end,)
        step = next_step(self.last, self._told())
        return () if step is None else (step,)

    def ends(self, series: str) -> tuple[Figure, Figure] | None:
        good, bad = (
            self.measured.get(end, Measured()).figures.get(series) for end in (self.first, self.last)
        )
        return (good, bad) if good is not None and bad is not None else None

    def trouble(self) -> str | None:
        if len(self._left) < ENDS:
            return f"it takes two caps, and {self._why_left_out()}"
        for end in (self.last, self.first):
            found = self.measured.get(end)
            if found is not None and not found.figures:
                note = found.note or "it gives no figure in decibels"
                return f"{self._called(end)} is an end of the search, and cannot be told: {note}"
        if not {self.first, self.last} <= self.measured.keys():
            return None
        series = self.series
        ends = self.ends(series) if series is not None else None
        if ends is None:
            return f"nothing is lost from {self._called(self.first)} to {self._called(self.last)}"
        return self._trouble_with(*ends)

    def result(self) -> Bisection:
        series = self.series
        ends = self.ends(series) if series is not None else None
        assert series is not None and ends is not None  # noqa: S101, PT018 - there is no trouble
        among = candidates(self.last, self._told())
        return Bisection(
            over=self.over,
            series=series,
            good=ends[0],
            bad=ends[1],
            steps=self.steps(),
            first_bad=self.step(among[0]) if len(among) == 1 else None,
            candidates=tuple(self.names[step] for step in among),
        )

    def _trouble_with(self, good: Figure, bad: Figure) -> str | None:
        if self.over == "layers" and not self.is_bad(self.last):
            return self._whole_is_not_bad(good, bad)
        if lost(good, bad) <= (0.0 if self.below_db is not None else NOTICEABLE_DB):
            what = "nothing" if lost(good, bad) <= 0 else f"no more than {NOTICEABLE_DB} dB"
            return f"{what} is lost from {self._called(self.first)} to {self._called(self.last)}"
        if self.is_bad(self.first):
            return f"{self._called(self.first)} is bad already: {words(good)}"
        return None if self.is_bad(self.last) else f"{self._called(self.last)} is not bad: {words(bad)}"

    def _whole_is_not_bad(self, good: Figure, here: Figure) -> str:
        whole = "with all layers quantized"
        if self.had is None or not is_bad(self.had, good, here, self.below_db):
            return f"{whole} the figure is not bad: {words(here)}"
        return (
            f"{whole} the workers measure {words(here)} here, and the job had {words(self.had)}: "
            "their files or environment are not the job's"
        )

    def _told(self) -> Told:
        between = (step for step in self.measured if step not in {self.first, self.last})
        return {self.first: False, **{step: self.is_bad(step) for step in between}}

    @property
    def _left(self) -> tuple[int, ...]:
        """The steps without the caps that the job's lanes do not support: no end can be one of those."""
        return tuple(at for at in range(len(self.names)) if at not in self._left_out)

    @property
    def _left_out(self) -> frozenset[int]:
        if self.over != "isa":
            return frozenset()
        return frozenset(at for at, found in self.measured.items() if found.unsupported)

    def _why_left_out(self) -> str:
        by_note: dict[str, list[str]] = {}
        for at in sorted(self._left_out):
            by_note.setdefault(self.measured[at].note or "unsupported", []).append(self._called(at))
        return "; ".join(f"{', '.join(caps)}: {note}" for note, caps in by_note.items())

    def _called(self, step: int) -> str:
        return called(self.names[step], self.over)


def is_bad(figure: Figure, good: Figure, bad: Figure, below_db: float | None) -> bool:
    """Whether a figure is below what is asked, or nearer to the bad end than to the good one."""
    if figure.kind is FigureKind.EXACT:
        return False
    if figure.value is not None and below_db is not None:
        return figure.value < below_db
    if figure.value is None or good.value is None:
        return True
    return bad.value is not None and good.value - figure.value > (good.value - bad.value) / 2


def words(figure: Figure) -> str:
    """A figure with its unit, if it has one.

    >>> words(Figure.finite(33.5878)), words(EXACT)
    ('33.588 dB', 'exact')
    """
    return f"{figure} dB" if figure.value is not None else str(figure)


def called(name: str, over: Over) -> str:
    """A step in words.

    >>> called("0123456789abcdef", "commits"), called("", "layers")
    ('0123456789ab', '(no layer is quantized)')
    """
    return name[:SHOWN_NAME] if over in {"commits", "environments"} else name or NOTHING_QUANTIZED


def lost(good: Figure, bad: Figure) -> float:
    """How much is lost in dB; what has no number lost more than any number can say."""
    if good.value is not None and bad.value is not None:
        return good.value - bad.value
    rank = {FigureKind.EXACT: 2, FigureKind.FINITE: 1}
    return float("inf") if rank.get(good.kind, 0) > rank.get(bad.kind, 0) else 0.0
