"""The answer of one minute: the gravest findings, what was lost where, and how to see it again. Pure."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from noisefloor.contract.base import Value
from noisefloor.contract.figure import Figure
from noisefloor.contract.measurement import OUTPUT
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Absence, Baseline, Finding, Verdict
from noisefloor.gate.explain import Explanation, Explanations, explained
from noisefloor.gate.markdown import escaped, fenced
from noisefloor.gate.saved import label

SHOWN = 5
SHA_LENGTH = 12
TITLES = {
    Verdict.PASS: "Every rule holds",
    Verdict.ACKNOWLEDGED: "Accepted losses only",
    Verdict.WARN: "Nothing regressed; something needs a look",
    Verdict.PENDING: "Measuring",
    Verdict.NO_BASELINE: "Nothing to judge it against",
    Verdict.ERROR: "Could not evaluate",
    Verdict.REGRESSED: "Regressed",
}


class Loss(Value):
    """One finding that is no pass: where, how much, since what, and what it is put down to.

    What is missing is in no cell: it has no figure, and no command that measures it again.
    """

    where: str
    missing: bool = False
    verdict: Verdict
    message: str
    figure: Figure | None = None
    floor_db: float | None = None
    drop_db: float | None = None
    baseline: Baseline | None = None
    layer: str | None = None
    cause: str | None = None
    let_through: str | None = None
    repro: str | None = None

    @property
    def lost_db(self) -> float | None:
        """What is gone since the baseline, or what is missing to the floor, in dB."""
        if self.drop_db is not None and self.drop_db > 0:
            return self.drop_db
        value = self.figure.value if self.figure is not None else None
        if self.floor_db is None or value is None or value >= self.floor_db:
            return None
        return self.floor_db - value


class Summary(Value):
    """A verdict and the losses behind it, the gravest first."""

    name: str = ""
    verdict: Verdict
    message: str
    losses: tuple[Loss, ...] = ()
    more: int = 0
    url: str | None = None


def summary(report: Report, saved: Report | None = None, *, shown: int = SHOWN) -> Summary:
    """The summary of a judged report; `saved` has the layers and the environment of before.

    Every missing series is in it: of the other losses, those that are among the `shown` gravest.
    """
    losses = sorted(_losses(report, saved), key=lambda one: (-one.verdict.severity, -(one.lost_db or 0.0)))
    kept = tuple(loss for number, loss in enumerate(losses) if number < shown or loss.missing)
    return Summary(
        name=report.name,
        verdict=report.verdict,
        message=report.message,
        losses=kept,
        more=len(losses) - len(kept),
        url=report.url,
    )


def gravest_first(absences: Iterable[Absence]) -> list[Absence]:
    """Missing series by what they mean; those of one verdict stay in their order."""
    return sorted(absences, key=lambda one: -one.finding.verdict.severity)


def others(number: int) -> str:
    """What is said of the losses that are not shown.

    >>> others(1)
    '1 more finding is not a pass.'
    """
    return f"{number} more {'finding is' if number == 1 else 'findings are'} not a pass."


def markdown(said: Summary) -> str:
    """The summary in GitHub's Markdown. Names come from users' models, and are escaped."""
    name = f"{escaped(said.name)}: " if said.name else ""
    parts = [f"## {name}{TITLES[said.verdict]}", f"**{said.verdict}**: {escaped(said.message)}"]
    if said.losses:
        rows = [_row(loss) for loss in said.losses]
        head = ("series", "SQNR dB", "lost dB", "layer", "cause", "baseline", "verdict")
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows)))
    if said.more:
        parts.append(others(said.more))
    for repro, group in groupby(said.losses, key=lambda loss: loss.repro):
        if repro is not None and (block := fenced(repro)) is not None:
            where = ", ".join(escaped(loss.where) for loss in group)
            parts.append(f"Measure it again ({where}):\n\n{block}")
    if said.url is not None:
        parts.append(f"[The job]({said.url})")
    return "\n\n".join(parts) + "\n"


def _losses(report: Report, saved: Report | None) -> Iterator[Loss]:
    explanations = Explanations(report, saved)
    for absence in report.missing:
        yield _missing(absence)
    for cell in report.cells:
        for about in (None, *cell.measurements):
            finding = cell.finding if about is None else about.finding
            if finding is not None and finding.verdict is not Verdict.PASS:
                yield _loss(cell, about, finding, explanations.of(cell, about, finding))


def _missing(absence: Absence) -> Loss:
    finding = absence.finding
    return Loss(
        where=absence.label,
        missing=True,
        verdict=finding.verdict,
        message=finding.message,
        baseline=finding.baseline,
        let_through=explained(finding).let_through,
    )


def _loss(cell: CellView, measured: MeasurementView | None, finding: Finding, known: Explanation) -> Loss:
    where = label(cell)
    if measured is not None:
        where += f" · {measured.edge}" + ("" if measured.place == OUTPUT else f" · {measured.place}")
    return Loss(
        where=where,
        verdict=finding.verdict,
        message=finding.message,
        figure=measured.figure if measured is not None else None,
        floor_db=finding.floor_db,
        drop_db=finding.drop_db,
        baseline=finding.baseline,
        layer=str(known.layer) if known.layer is not None else None,
        cause=known.cause,
        let_through=known.let_through,
        repro=cell.repro,
    )


def _row(loss: Loss) -> tuple[str, ...]:
    lost_db = loss.lost_db
    return (
        escaped(loss.where),
        str(loss.figure) if loss.figure is not None else "–",
        f"{lost_db:.3f}" if lost_db is not None else "–",
        escaped(loss.layer or "–"),
        escaped(loss.cause or "–"),
        _baseline(loss),
        f"{loss.verdict}: {escaped(loss.message)}" + _let_through(loss),
    )


def _let_through(loss: Loss) -> str:
    return f"; let through: {escaped(loss.let_through)}" if loss.let_through is not None else ""


def _baseline(loss: Loss) -> str:
    if loss.baseline is None:
        return "none" if loss.floor_db is None else f"floor {loss.floor_db:.3f}"
    at = f" at {loss.baseline.sha[:SHA_LENGTH]}" if loss.baseline.sha is not None else ""
    return f"{loss.baseline.figure}{at}"
