"""Results as a person or a program reads them. `run` and the service's verbs print through here alike."""

import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from noisefloor.contract.base import Value
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.job import CellStatus
from noisefloor.contract.layers import Sensitivity
from noisefloor.contract.measurement import OUTPUT, SQNR, WRONG_CASES, amount, unit
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Absence, Finding, Verdict
from noisefloor.gate.explain import Explanations, explained
from noisefloor.gate.saved import label

WIDTH_UNSEEN = 160
REASON_CHARS = 400
NOT_FOUND = "ModuleNotFoundError: No module named"

STYLES = {
    Verdict.PASS: "green",
    Verdict.ACKNOWLEDGED: "green",
    Verdict.WARN: "yellow",
    Verdict.PENDING: "dim",
    Verdict.NO_BASELINE: "magenta",
    Verdict.ERROR: "bold red",
    Verdict.REGRESSED: "bold red",
}


def screen() -> Console:
    """Standard output: as wide as the terminal, or as wide as the table where there is none."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=WIDTH_UNSEEN)


def print_json(report: Value) -> None:
    """One JSON document on standard output."""
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(
        report.model_dump_json(by_alias=True, indent=2)
    )


def print_report(report: Report) -> None:
    """The result table, and then the verdict."""
    console = screen()
    table = Table(title=report.name or None, box=None, header_style="bold", pad_edge=False)
    for heading in ("subject", "scheme", "edge", "engine"):
        table.add_column(heading, overflow="fold")
    for heading in ("SQNR dB", "floor", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    for cell in report.cells:
        for row in _rows(cell):
            table.add_row(*row)
    console.print(table)
    print_verdict(report)


def print_verdict(report: Report, saved: Report | None = None) -> None:
    """What needs attention, with the command that reproduces it, and the verdict.

    `saved` is what the report was held against without a service.
    """
    console = screen()
    layers = {view.cell: view for view in report.layers}
    explanations = Explanations(report, saved)
    alike = Counter(cell.finding for cell in report.cells if cell.finding is not None)
    concerns: list[CellView | Absence] = [*report.missing, *report.cells]
    for one in sorted(concerns, key=severity, reverse=True):
        if isinstance(one, Absence):
            console.print(Text(f"{one.label}: ", style="bold"), Text(one.finding.message), sep="")
            _print_indented(console, explained(one.finding).sentences)
        elif one.finding is not None:
            if number := alike.pop(one.finding, 0):
                _print_ended(console, one, one.finding, number)
        else:
            _print_attention(console, one, explanations)
    for cell in report.cells:
        sensitivity = layers[cell.id].sensitivity if cell.id in layers else None
        if sensitivity is not None:
            where = f"{cell.subject.label} · {cell.scheme.label} · {cell.lane.label} {sensitivity.edge}: "
            console.print(Text(where, style="bold"), Text(_sensitivity(sensitivity)), soft_wrap=True)
    console.print(
        Text("verdict: "),
        Text(report.verdict.value, style=STYLES[report.verdict]),
        Text(f"({_one_line(report.message)})"),
    )


def _rows(cell: CellView) -> list[list[str | Text]]:
    names: list[str | Text] = [cell.subject.label, cell.scheme.label]
    if cell.status is not CellStatus.DONE:
        edges = ", ".join(cell.scheme.edges)
        return [
            [
                *names,
                edges,
                cell.lane.label,
                Text(cell.status.value, style="yellow"),
                "",
                _verdict(cell.finding),
            ]
        ]
    if cell.conformance is not None:
        return [_kernel_row(names, cell, cell.conformance)]
    return [
        [
            *(names if m.place == OUTPUT and m.metric == SQNR else ("", "")),
            _what(m),
            cell.lane.label,
            _figure(m),
            f"{m.finding.floor_db:.3f}" if m.finding and m.finding.floor_db is not None else "",
            _verdict(m.finding),
        ]
        for m in cell.measurements
    ]


def _kernel_row(names: list[str | Text], cell: CellView, found: Conformance) -> list[str | Text]:
    """What was found of a kernel, in one row: its figures have a line below where it is at fault."""
    (edge,) = cell.scheme.edges
    finding = next((m.finding for m in cell.measurements if m.metric == WRONG_CASES), None)
    worst_db = "" if found.worst_db is None else f"{found.worst_db:.3f}"
    return [*names, f"{edge}: {found.verdict}", cell.lane.label, worst_db, "", _verdict(finding)]


def _what(measurement: MeasurementView) -> str:
    """Edge and place; and the metric, where it is not the headline's."""
    where = measurement.edge if measurement.place == OUTPUT else f"{measurement.edge} {measurement.place}"
    return where if measurement.metric == SQNR else f"{where}: {measurement.metric}"


def _figure(measurement: MeasurementView) -> str:
    zero = " (zero output)" if measurement.zero_output else ""
    figure = amount(measurement.figure, measurement.metric)
    if measurement.metric != SQNR and measurement.figure.value is not None:
        return f"{figure}{unit(measurement.metric)}"  # the column says dB
    return f"{figure}{zero}"


def _verdict(finding: Any) -> Text:
    return Text(finding.verdict.value, style=STYLES[finding.verdict]) if finding else Text("–", style="dim")


def severity(one: CellView | Absence) -> int:
    """Of the gravest finding; 0 of a cell that has none."""
    of = [one.finding] if isinstance(one, Absence) else [one.finding, *(m.finding for m in one.measurements)]
    return max((finding.verdict.severity for finding in of if finding is not None), default=0)


def _print_ended(console: Console, cell: CellView, finding: Finding, alike: int) -> None:
    """Why cells gave no measurement, once for all that ended alike; their tracebacks stay in JSON."""
    others = f" and {alike - 1} more cell{'' if alike == 2 else 's'}" if alike > 1 else ""  # noqa: PLR2004
    console.print(Text(f"{label(cell)}{others}: ", style="bold"), Text(_one_line(finding.message)), sep="")
    _print_indented(console, explained(finding).sentences)
    if NOT_FOUND in finding.message:
        again = (
            f"the worker's PYTHONPATH? Then: noisefloor retry {cell.job_id}" if cell.job_id else "PYTHONPATH?"
        )
        console.print(Text(f"  is it on {again}"), soft_wrap=True)
    if cell.traceback:
        page = ", and on the job's page" if cell.job_id else ""
        console.print(Text(f"  the traceback is in --format json{page}", style="dim"))
    console.print(Text(f"  reproduce: {cell.repro}", style="dim"), soft_wrap=True)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= REASON_CHARS else f"{line[:REASON_CHARS]}…"


def _print_attention(console: Console, cell: CellView, explanations: Explanations) -> None:
    bad, layers = False, []
    for measured in cell.measurements:
        finding = measured.finding
        if finding is None or finding.verdict is Verdict.PASS:
            continue
        bad = True
        where = f"{label(cell)} {measured.edge} {measured.place}"
        console.print(Text(f"{where}: ", style="bold"), Text(finding.message), sep="")
        known = explanations.of(cell, measured, finding)
        if known.layer is not None:
            layers.append(f"{known.layer.edge}: {known.layer}")
        _print_indented(console, known.replace(layer=None).sentences)
    _print_indented(console, dict.fromkeys(layers))
    if cell.conformance is not None and cell.conformance.script is not None:
        console.print(Text(cell.conformance.script), soft_wrap=True)
    if bad:
        console.print(Text(f"  reproduce: {cell.repro}", style="dim"), soft_wrap=True)


def _print_indented(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(Text(f"  {line}"))


def _sensitivity(found: Sensitivity) -> str:
    if found.unavailable is not None:
        return f"no sensitivity: {found.unavailable}"
    if found.mixed is None:
        return f"{found.target_db:g} dB are reached with every layer quantized"
    mixed = found.mixed
    reached = "reached" if mixed.reached else "not reached"
    measured = f"{mixed.measured} dB measured, " if mixed.measured is not None else ""
    note = f" ({mixed.note})" if mixed.note else ""
    return f"float_layers [{', '.join(mixed.float_layers)}]: {measured}{found.target_db:g} dB {reached}{note}"
