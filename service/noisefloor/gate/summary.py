"""The answer of one minute: the gravest findings, what was lost where, and how to see it again. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from noisefloor.contract.base import Value
from noisefloor.contract.figure import Figure
from noisefloor.contract.layers import LayerReport
from noisefloor.contract.measurement import OUTPUT
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Absence, Baseline, Finding, Verdict
from noisefloor.gate.culprit import culprit
from noisefloor.gate.markdown import escaped, fenced
from noisefloor.gate.saved import label, lines

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
    layers = _layers(report)
    before = {line: (cell, m) for line, cell, m in lines(saved)} if saved is not None else {}
    layers_before = _layers(saved) if saved is not None else {}
    causes = {one.measurement: one.attribution.message for one in report.attributions}
    for absence in report.missing:
        yield _missing(absence)
    for cell in report.cells:
        if cell.finding is not None and cell.finding.verdict is not Verdict.PASS:
            yield _loss(cell, None, cell.finding, None, None)
        for m in cell.measurements:
            if m.finding is None or m.finding.verdict is Verdict.PASS:
                continue
            earlier, _ = before.get((m.series, cell.lane.threads), (None, None))
            was = layers_before.get((earlier.id, m.edge)) if earlier is not None else None
            layer = _layer(layers.get((cell.id, m.edge)), was)
            yield _loss(cell, m, m.finding, layer, causes.get(m.id) or _cause(cell, earlier))


def _missing(absence: Absence) -> Loss:
    finding = absence.finding
    return Loss(
        where=absence.label,
        missing=True,
        verdict=finding.verdict,
        message=finding.message,
        baseline=finding.baseline,
    )


def _loss(
    cell: CellView, measured: MeasurementView | None, finding: Finding, layer: str | None, cause: str | None
) -> Loss:
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
        layer=layer,
        cause=cause,
        repro=cell.repro,
    )


def _layers(report: Report) -> Mapping[tuple[str, str], LayerReport]:
    return {(view.cell, of_edge.edge): of_edge for view in report.layers for of_edge in view.reports}


def _layer(here: LayerReport | None, before: LayerReport | None) -> str | None:
    found = culprit(here, before) if here is not None else None
    if found is None:
        return None
    layer = found.layer
    if found.was is not None:
        return f"{layer.name} ({layer.kind}): {found.was.local} → {layer.local} dB"
    return f"{layer.name} ({layer.kind}): {layer.share or 0:.0%} of the layers' noise"


def _cause(cell: CellView, earlier: CellView | None) -> str | None:
    """What moved beside the figure. Code and environment are told apart where the latter stood still."""
    if earlier is None or cell.environment is None or earlier.environment is None:
        return None
    if cell.environment == earlier.environment:
        return "code or config: the environment is the same"
    return "the environment changed, the code may have too"


def _row(loss: Loss) -> tuple[str, ...]:
    lost_db = loss.lost_db
    return (
        escaped(loss.where),
        str(loss.figure) if loss.figure is not None else "–",
        f"{lost_db:.3f}" if lost_db is not None else "–",
        escaped(loss.layer or "–"),
        escaped(loss.cause or "–"),
        _baseline(loss),
        f"{loss.verdict}: {escaped(loss.message)}",
    )


def _baseline(loss: Loss) -> str:
    if loss.baseline is None:
        return "none" if loss.floor_db is None else f"floor {loss.floor_db:.3f}"
    at = f" at {loss.baseline.sha[:SHA_LENGTH]}" if loss.baseline.sha is not None else ""
    return f"{loss.baseline.figure}{at}"
