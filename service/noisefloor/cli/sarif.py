"""A report as SARIF 2.1.0: a result of each finding that is no pass, the gravest first.

A verdict that is graver than all of them is a result of its own.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from noisefloor.contract.measurement import OUTPUT
from noisefloor.contract.report import Report
from noisefloor.contract.resources import CellView, MeasurementView
from noisefloor.contract.verdict import Finding, Verdict
from noisefloor.gate.explain import Explanations
from noisefloor.gate.saved import label
from noisefloor.identity import canonical, digest

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
PASSED = {Verdict.PASS, Verdict.ACKNOWLEDGED}
VERDICT_RULE = "verdict"
FINGERPRINT = "noisefloorSeries/v1"
RULES = {
    "floor_db": "The SQNR is at or above its floor",
    "max_drop_db": "The SQNR has not dropped by more than is allowed against its baseline",
    "coverage_min": "As much is quantized as is asked for",
    "mismatch": "The outputs have the same structure, shape and dtype",
    "own_floor": "The floor is one that float32 itself can reach",
    "zero_output": "The output is not zero throughout",
    "on.nonfinite": "The output is finite",
    "on.no_baseline": "There is a baseline",
    "on.missing_series": "Every series of the baseline is there",
    "on.unsupported": "The engine supports what is measured",
    "on.conformance": "The kernel gives what its reference gives, but for a rounding",
    "conformance": "What was found of the kernel is there",
    "on.worker_error": "The cell was measured to its end",
    "on.unknown_files": "The files are known to be those of the job's commit",
    "other_files": "The files are those of the job's commit",
    VERDICT_RULE: "The job as a whole passes its policy",
}

Located = tuple[Verdict, dict[str, Any]]


def sarif(report: Report, saved: Report | None = None, *, location: str | None = None) -> str:
    """The document. `location` is the file that results point at: code scanning shows none without one.

    `saved` is what the report was held against without a service.
    """
    found = [*_missing(report), *_found(report, Explanations(report, saved))]
    found.sort(key=lambda one: -one[0].severity)
    results = [result for _, result in found]
    worst = max((verdict.severity for verdict, _ in found), default=0)
    if worst < report.verdict.severity and report.verdict not in PASSED:
        results.append(_result(VERDICT_RULE, report.verdict, report.message, at=report.name or "job"))
    physical = {"artifactLocation": {"uri": location}, "region": {"startLine": 1}} if location else None
    for result in results:
        if physical is not None:
            result["locations"][0]["physicalLocation"] = physical
    rules = sorted({result["ruleId"] for result in results})
    driver = {
        "name": "Noisefloor",
        "rules": [{"id": rule, "shortDescription": {"text": RULES.get(rule, rule)}} for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"noisefloor/{report.name}"},
        "invocations": [
            {
                "executionSuccessful": report.verdict not in {Verdict.ERROR, Verdict.PENDING},
                "exitCode": report.verdict.exit_code,
                "exitCodeDescription": f"{report.verdict}: {report.message}",
            }
        ],
        "results": results,
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _missing(report: Report) -> Iterator[Located]:
    """Of series that are not there; their fingerprint is no measurement's, which came and went otherwise."""
    for absence in report.missing:
        finding = absence.finding
        if finding.verdict in PASSED:
            continue
        at = absence.label
        result = _result(finding.rule, finding.verdict, f"{at}: {finding.message}", at=at)
        result["partialFingerprints"][FINGERPRINT] = f"{absence.series}/missing"
        if finding.baseline is not None:
            result["properties"] = {"baseline": finding.baseline.model_dump(mode="json")}
        yield finding.verdict, result


def _found(report: Report, explanations: Explanations) -> Iterator[Located]:
    for cell in report.cells:
        for about in (None, *cell.measurements):
            finding = cell.finding if about is None else about.finding
            if finding is not None and finding.verdict not in PASSED:
                known = explanations.of(cell, about, finding)
                yield finding.verdict, _of(cell, about, finding, known.sentences)


def _of(
    cell: CellView, measured: MeasurementView | None, finding: Finding, known: Sequence[str]
) -> dict[str, Any]:
    at = label(cell)
    if measured is not None:
        at += f" · {measured.edge}" + ("" if measured.place == OUTPUT else f" · {measured.place}")
    message = "; ".join((finding.message, *known))
    result = _result(finding.rule, finding.verdict, f"{at}: {message}", at=at)
    if measured is not None:
        result["partialFingerprints"][FINGERPRINT] = f"{measured.series}/{cell.lane.threads}"
    figures = {
        "sqnr_db": measured.figure.model_dump(mode="json") if measured is not None else None,
        "floor_db": finding.floor_db,
        "drop_db": finding.drop_db,
        "baseline": finding.baseline and finding.baseline.model_dump(mode="json"),
        "reproduce": cell.repro,
    }
    result["properties"] = {name: value for name, value in figures.items() if value is not None}
    return result


def _result(rule: str, verdict: Verdict, message: str, *, at: str) -> dict[str, Any]:
    return {
        "ruleId": rule,
        "level": "warning" if verdict is Verdict.WARN else "error",
        "message": {"text": message},
        "locations": [{"logicalLocations": [{"fullyQualifiedName": at}]}],
        "partialFingerprints": {FINGERPRINT: digest(canonical(at))},
    }
