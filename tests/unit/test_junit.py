"""JUnit XML, held to a schema of those who read it."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema
from tests.reports import TODAY, failed, layers, reported
from tests.samples import result

from noisefloor.cli.junit import junit
from noisefloor.contract.job import CellStatus
from noisefloor.contract.report import Report
from noisefloor.contract.verdict import Verdict
from noisefloor.gate.saved import judged

SCHEMA = xmlschema.XMLSchema(Path(__file__).parents[1] / "schemas" / "jenkins-junit.xsd")

REPORTS = {
    "pass": reported(41.5, policy={}),
    "regressed": judged(reported(38.0, 41.5), reported(41.5, 41.5), today=TODAY),
    "missing": judged(reported(41.5), reported(41.5, 41.5), today=TODAY),
    "error": reported(41.5, failed(1, traceback="where\n  it was"), policy={}),
    "warn": reported(41.5, failed(1, CellStatus.UNSUPPORTED), policy={}),
    "no_baseline": reported(41.5),
    "nothing judged": reported(
        41.5, policy={}, schemes=[{"flow": "eager", "mode": "static", "edge": "float32->true"}]
    ),
    "pending": reported(41.5).replace(verdict=Verdict.PENDING, cells=()),
}

# Two series of the saved report are gone, and one that is new has no baseline.
LACKING = judged(reported(41.5, lanes={"engine": ["qnnpack"]}), reported(41.5, 41.5), today=TODAY)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_it_fits_the_schema_and_fails_where_the_verdict_does(report: Report) -> None:
    document = junit(report)
    SCHEMA.validate(document)
    root = ET.fromstring(document)
    bad = [*root.iter("failure"), *root.iter("error")]
    assert bool(bad) is (report.verdict.exit_code != 0)
    assert int(root.attrib["failures"]) + int(root.attrib["errors"]) == len(bad)
    assert int(root.attrib["tests"]) == len(list(root.iter("testcase")))


def test_a_loss_is_a_failure_of_its_measurement_with_what_to_run() -> None:
    root = ET.fromstring(junit(REPORTS["regressed"]))
    suite = root[0]
    assert suite.attrib["name"] == "multiple-ops · eager static per_tensor · x86"
    (case,) = suite.findall("testcase")
    assert case.attrib["name"] == "float32->true output"
    (failure,) = case
    assert failure.attrib["type"] == "max_drop_db"
    assert "a drop of 3.500 dB" in failure.attrib["message"]
    assert "| noisefloor run -" in (failure.text or "")
    properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert properties["float32->true output sqnr_db"] == "38.000"
    assert properties["float32->true output drop_db"] == "3.500"
    assert properties["float32->true output baseline_db"] == "41.500"


def test_a_loss_names_layer_and_cause_or_says_that_it_is_not_known() -> None:
    saved = reported(result("0", 41.5, layers=layers(conv=30.0, fc=45.0)))
    lost = judged(reported(result("0", 38.5, layers=layers(conv=30.0, fc=39.0))), saved, today=TODAY)
    said = "fc (Linear) lost 6.000 dB: its own error was at 45.000 dB and is at 39.000 dB"
    cause = "cause: code or config: the environment is the same"
    failure = next(ET.fromstring(junit(lost, saved)).iter("failure"))
    assert failure.attrib["message"].endswith(f"allowed; {said}; {cause}")
    assert (failure.text or "").splitlines()[1:3] == [said, cause]
    failure = next(ET.fromstring(junit(reported(29.0, policy={}))).iter("failure"))
    assert failure.attrib["message"].endswith("; cause: not known")


def test_every_missing_series_is_a_failed_test_case() -> None:
    root = ET.fromstring(junit(LACKING))
    SCHEMA.validate(junit(LACKING))
    missing, *_ = root
    assert missing.attrib["name"] == "missing series"
    cases = {case.attrib["classname"]: case[0] for case in missing.iter("testcase")}
    assert list(cases) == [absence.label for absence in LACKING.missing]
    for failure in cases.values():
        assert (failure.tag, failure.attrib["type"]) == ("failure", "on.missing_series")
        assert "the baseline had 41.500 dB" in failure.attrib["message"]


def test_what_could_not_be_measured_is_an_error_or_skipped_as_the_policy_says() -> None:
    outcomes = [ET.fromstring(junit(REPORTS[name]))[1].find("testcase") for name in ("error", "warn")]
    assert [outcome[0].tag for outcome in outcomes if outcome is not None] == ["error", "skipped"]


def test_what_xml_cannot_write_is_replaced() -> None:
    odd = reported(failed(0, traceback="\x1b[31mred\x1b[0m \ufffe]]>"), name="a\x01b")
    document = junit(odd)
    SCHEMA.validate(document)
    assert "a\ufffdb" in document
    assert "\x1b" not in document


def test_facts_of_a_graph_are_no_test_cases() -> None:
    (measured,) = result("0").measurements
    fact = measured.replace(metric="prepare_s", place="graph", sums=None)
    root = ET.fromstring(junit(reported(result("0", measurements=(measured, fact)), policy={})))
    assert len(root[0].findall("testcase")) == 1
