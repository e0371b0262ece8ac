"""SARIF, held to its schema."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.reports import TODAY, failed, layers, reported
from tests.samples import result
from tests.unit.test_junit import LACKING, REPORTS

from noisefloor.cli.sarif import sarif
from noisefloor.contract.report import Report
from noisefloor.gate.saved import judged

SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "sarif-2.1.0.json").read_text())
VALIDATOR = jsonschema.Draft4Validator(SCHEMA)


def run(report: Report, location: str | None = None) -> dict[str, Any]:
    """The one run of a document that fits the schema."""
    document = json.loads(sarif(report, location=location))
    VALIDATOR.validate(document)
    (only,) = document["runs"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_it_fits_the_schema_and_has_an_error_where_the_verdict_is_one(report: Report) -> None:
    made = run(report, "job.yaml")
    assert made["invocations"][0]["exitCode"] == report.verdict.exit_code
    if report.verdict.exit_code:
        assert made["results"]
    if not made["results"]:
        assert report.verdict.value == "pass"
    rules = {rule["id"] for rule in made["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in made["results"]} == rules


def test_a_loss_has_its_series_for_a_fingerprint_and_a_place_in_the_repository() -> None:
    report = judged(reported(38.0, 41.5), reported(41.5, 41.5), today=TODAY)
    (result,) = run(report, "job.yaml")["results"]
    assert (result["ruleId"], result["level"]) == ("max_drop_db", "error")
    assert result["partialFingerprints"]["noisefloorSeries/v1"].startswith(
        report.cells[0].measurements[0].series
    )
    place = result["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "job.yaml"
    assert place["logicalLocations"][0]["fullyQualifiedName"].endswith("x86 · float32->true")
    assert result["properties"]["drop_db"] == 3.5


def test_without_a_location_results_are_at_their_series_alone() -> None:
    (result,) = run(reported(failed(0)))["results"]
    assert "physicalLocation" not in result["locations"][0]


def test_a_verdict_that_is_graver_than_its_findings_is_a_result_of_its_own() -> None:
    found = {
        result["ruleId"]: result["message"]["text"] for result in run(REPORTS["nothing judged"])["results"]
    }
    assert set(found) == {"verdict"}
    assert "nothing was judged" in found["verdict"]


def test_a_loss_names_layer_and_cause() -> None:
    saved = reported(result("0", 41.5, layers=layers(conv=30.0, fc=45.0)))
    lost = judged(reported(result("0", 38.5, layers=layers(conv=30.0, fc=39.0))), saved, today=TODAY)
    (found,) = json.loads(sarif(lost, saved))["runs"][0]["results"]
    assert found["message"]["text"].endswith(
        "allowed; fc (Linear) lost 6.000 dB: its own error was at 45.000 dB and is at 39.000 dB; "
        "cause: code or config: the environment is the same"
    )


def test_every_missing_series_is_a_result_and_the_gravest_come_first() -> None:
    first, *missing = run(LACKING)["results"]
    assert (first["ruleId"], len(missing)) == ("on.missing_series", 2)
    assert [one["ruleId"] for one in missing] == ["on.missing_series", "on.no_baseline"]
    (absence, _) = LACKING.missing
    assert first["message"]["text"] == f"{absence.label}: {absence.finding.message}"
    assert first["partialFingerprints"]["noisefloorSeries/v1"] == f"{absence.series}/missing"
    assert first["properties"]["baseline"]["figure"]["value"] == 41.5
