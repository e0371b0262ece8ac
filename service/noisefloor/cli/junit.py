"""A report as JUnit XML: a suite of each cell, a test case of each measurement and of each missing series.

The verdict is a test case of its own.

Decibels stand as properties of the suite: the schemas of those who read JUnit know none of a test case.
"""

import re
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import (
    Element,
    SubElement,
    indent,
    tostring,
)

from noisefloor.contract.measurement import SQNR, amount
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Absence, Finding, Verdict
from noisefloor.gate.explain import Explanations, explained
from noisefloor.gate.saved import label
from noisefloor.gate.summary import gravest_first

FAILURE, ERROR, SKIPPED = "failure", "error", "skipped"
OUTCOMES = {
    Verdict.REGRESSED: FAILURE,
    Verdict.NO_BASELINE: FAILURE,
    Verdict.ERROR: ERROR,
    Verdict.PENDING: ERROR,
}
# What XML 1.0 has no way to write.
FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report, saved: Report | None = None) -> str:
    """The document. It has a failure or an error whenever the verdict is none that lets a merge through.

    `saved` is what the report was held against without a service.
    """
    name = report.name or "noisefloor"
    explanations = Explanations(report, saved)
    root = Element("testsuites", name=_text(name))
    if report.missing:
        root.append(_missing(report.missing))
    for cell in report.cells:
        root.append(_suite(cell, explanations))
    root.append(_verdict(report, name))
    for attribute in ("tests", "failures", "errors"):
        root.set(attribute, str(sum(int(suite.get(attribute, "0")) for suite in root)))
    indent(root)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return f"{document.decode()}\n"


def _suite(cell: CellView, explanations: Explanations) -> Element:
    suite = Element("testsuite", name=_text(label(cell)), time=f"{cell.duration_s or 0:.3f}")
    properties = SubElement(suite, "properties")
    for name, value in _properties(cell):
        SubElement(properties, "property", name=_text(name), value=_text(value))
    if cell.finding is not None or not cell.measurements:
        warned = cell.finding is not None and cell.finding.verdict is Verdict.WARN
        case = _case(suite, cell, cell.status.value)
        _told(case, cell, None, cell.finding, explanations, otherwise=SKIPPED if warned else None)
    for measurement in cell.measurements:
        if measurement.finding is not None or measurement.metric == SQNR:
            case = _case(suite, cell, _what(measurement))
            _told(case, cell, measurement, measurement.finding, explanations, otherwise=None)
    return _counted(suite)


def _missing(absences: Sequence[Absence]) -> Element:
    """A suite of the series that are not there, the gravest first: there is no cell that could have them."""
    suite = Element("testsuite", name="missing series")
    for absence in gravest_first(absences):
        case = SubElement(suite, "testcase", classname=_text(absence.label), name="missing")
        known = explained(absence.finding).sentences
        _outcome(case, absence.finding, known, (), otherwise=None)
    return _counted(suite)


def _case(suite: Element, cell: CellView, name: str) -> Element:
    return SubElement(suite, "testcase", classname=_text(label(cell)), name=_text(name))


def _told(
    case: Element,
    cell: CellView,
    measured: MeasurementView | None,
    finding: Finding | None,
    explanations: Explanations,
    *,
    otherwise: str | None,
) -> None:
    if finding is None:
        SubElement(case, SKIPPED).text = "no rule applies"
        return
    known = explanations.of(cell, measured, finding).sentences if finding.verdict is not Verdict.PASS else ()
    _outcome(case, finding, known, (cell.traceback, f"reproduce: {cell.repro}"), otherwise=otherwise)


def _outcome(
    case: Element,
    finding: Finding,
    known: Sequence[str],
    more: Sequence[str | None],
    *,
    otherwise: str | None,
) -> None:
    outcome = OUTCOMES.get(finding.verdict, otherwise)
    message = "; ".join((finding.message, *known))
    if outcome in {FAILURE, ERROR}:
        element = SubElement(case, str(outcome), type=_text(finding.rule), message=_text(message))
        element.text = _text("\n".join(part for part in (finding.message, *known, *more) if part))
    elif outcome == SKIPPED:
        SubElement(case, SKIPPED).text = _text(message)
    else:
        SubElement(case, "system-out").text = _text(f"{finding.verdict}: {message}")


def _verdict(report: Report, name: str) -> Element:
    suite = Element("testsuite", name="verdict")
    case = SubElement(suite, "testcase", classname=_text(name), name="verdict")
    outcome = OUTCOMES.get(report.verdict)
    if outcome is not None:
        SubElement(case, outcome, type=report.verdict.value, message=_text(report.message))
    else:
        SubElement(case, "system-out").text = _text(f"{report.verdict}: {report.message}")
    return _counted(suite)


def _counted(suite: Element) -> Element:
    counts = {"tests": "testcase", "failures": f"testcase/{FAILURE}", "errors": f"testcase/{ERROR}"}
    for attribute, path in {**counts, "skipped": f"testcase/{SKIPPED}"}.items():
        suite.set(attribute, str(len(suite.findall(path))))
    return suite


def _properties(cell: CellView) -> Iterator[tuple[str, str]]:
    yield "status", cell.status.value
    yield "engine", cell.lane.engine
    for m in cell.measurements:
        what = f"{m.edge} {m.place}"
        yield f"{what} {m.metric}", amount(m.figure, m.metric)
        if m.finding is not None:
            limits = {"floor_db": m.finding.floor_db, "drop_db": m.finding.drop_db}
            yield from ((f"{what} {name}", f"{db:.3f}") for name, db in limits.items() if db is not None)
            if m.finding.baseline is not None:
                yield f"{what} baseline_db", str(m.finding.baseline.figure)


def _what(measurement: MeasurementView) -> str:
    what = f"{measurement.edge} {measurement.place}"
    return what if measurement.metric == SQNR else f"{what} {measurement.metric}"


def _text(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)
