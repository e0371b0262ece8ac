"""Environments held against each other: which of them are bad, and what those have in common. Pure."""

from typing import Any

from noisefloor.contract.bisection import Bisection
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.gate.bisect import Steps, lost
from noisefloor.history.environments import shared_facts


class Environments(Steps):
    """Environments by their keys. They have no order in which to become worse, so all are measured."""

    documents: tuple[dict[str, Any], ...]

    def due(self) -> tuple[int, ...]:
        """All that are not measured."""
        return tuple(at for at in range(len(self.names)) if at not in self.measured)

    def ends(self, series: str) -> tuple[Figure, Figure] | None:
        """The best and the worst figure."""
        found = [m.figures[series] for m in self.measured.values() if series in m.figures]
        return (max(found, key=_goodness), min(found, key=_goodness)) if found else None

    def trouble(self) -> str | None:
        if self.due():
            return None
        told = [found for found in self.measured.values() if found.figures]
        if len(told) < 2:  # noqa: PLR2004 - it takes two to differ
            notes = dict.fromkeys(found.note for found in self.measured.values() if found.note)
            return f"fewer than two environments gave a figure: {'; '.join(notes) or 'no decibels'}"
        series = self.series
        ends = self.ends(series) if series is not None else None
        if ends is None or lost(*ends) <= 0:
            return f"nothing differs between {len(told)} environments"
        return None

    def result(self) -> Bisection:
        """Each environment with its figure, and what all bad ones have and no good one has."""
        series = self.series
        ends = self.ends(series) if series is not None else None
        assert series is not None and ends is not None  # noqa: S101, PT018 - there is no trouble
        verdicts = [self.is_bad(at) for at in range(len(self.names))]
        bad, good = (
            [document for document, told in zip(self.documents, verdicts, strict=True) if told is wanted]
            for wanted in (True, False)
        )
        return Bisection(
            over="environments",
            series=series,
            good=ends[0],
            bad=ends[1],
            steps=self.steps(),
            facts=shared_facts(bad, good),
        )


def _goodness(figure: Figure) -> tuple[int, float]:
    rank = {FigureKind.EXACT: 2, FigureKind.FINITE: 1}
    return rank.get(figure.kind, 0), figure.value or 0.0
