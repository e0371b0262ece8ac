"""A report held against a saved one."""

import pytest
from tests.reports import DROP, TODAY, failed, reported
from tests.samples import found, operators, result, spec

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus, JobSpec
from noisefloor.contract.report import Report
from noisefloor.contract.verdict import Verdict
from noisefloor.gate.saved import judged
from noisefloor_workers.cli.run import report


def of_kind(ordinal: int, kind: FigureKind) -> object:
    """A result whose figure is no number."""
    (measurement,) = result(str(ordinal)).measurements
    return result(str(ordinal), measurements=(measurement.replace(figure=Figure.of(kind), sums=None),))


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (41.5, 41.5, Verdict.PASS),
        (41.5, 41.0, Verdict.PASS),
        (41.5, 40.9, Verdict.REGRESSED),
        (41.5, 45.0, Verdict.PASS),
        (41.5, None, Verdict.PASS),
        (None, 41.5, Verdict.REGRESSED),
        (None, None, Verdict.PASS),
        (41.5, of_kind(0, FigureKind.NONFINITE), Verdict.REGRESSED),
        (41.5, of_kind(0, FigureKind.MISMATCH), Verdict.REGRESSED),
        (41.5, of_kind(0, FigureKind.ZERO_REF), Verdict.REGRESSED),
        (of_kind(0, FigureKind.NONFINITE), 41.5, Verdict.NO_BASELINE),
        (29.0, 41.5, Verdict.NO_BASELINE),
        (41.5, failed(0), Verdict.ERROR),
        (41.5, failed(0, CellStatus.UNSUPPORTED), Verdict.REGRESSED),
        (failed(0), failed(0), Verdict.ERROR),
        (failed(0), 41.5, Verdict.NO_BASELINE),
    ],
)
def test_situations(before: object, now: object, verdict: Verdict) -> None:
    found = judged(reported(now), reported(before), today=TODAY)  # type: ignore[arg-type]
    assert found.verdict is verdict


def test_without_a_saved_report_there_is_no_baseline() -> None:
    assert reported(41.5).verdict is Verdict.NO_BASELINE
    assert reported(41.5, policy={}).verdict is Verdict.PASS


def test_what_a_saved_report_does_not_have_is_not_looked_for_on_a_branch() -> None:
    found = judged(reported(41.5, 41.5), reported(41.5), today=TODAY)
    assert "the saved report does not have this series" in found.message
    found = judged(reported(41.5), reported(29.0), today=TODAY)
    assert "the saved report's own gate refused its result of this series" in found.message


def test_a_floor_holds_beside_the_baseline() -> None:
    assert judged(reported(29.9), reported(30.1), today=TODAY).verdict is Verdict.REGRESSED


def test_a_series_that_is_missing_is_named() -> None:
    found = judged(reported(41.5), reported(41.5, 41.5), today=TODAY)
    assert found.verdict is Verdict.REGRESSED
    assert "float32->true · output: missing: the baseline had 41.500 dB" in found.message
    assert "onednn" in found.message


def test_a_kernel_that_is_unsupported_now_is_missing() -> None:
    asked = JobSpec.model_validate(operators("aten::relu"))
    saved, now = (
        report(asked, "demo", {0: found("0", op="aten::relu", verdict=verdict, reason="why")})
        for verdict in ("exact", "unsupported")
    )
    said = judged(now, saved, today=TODAY)
    assert said.verdict is Verdict.REGRESSED
    assert "missing: the baseline had 0, the cell is unsupported" in said.message


def test_a_series_that_is_new_has_no_baseline() -> None:
    assert judged(reported(41.5, 41.5), reported(41.5), today=TODAY).verdict is Verdict.NO_BASELINE


def test_the_finding_names_the_commit_it_is_held_against() -> None:
    saved = reported(41.5, git={"sha": "ab" * 20, "committed_at": "2026-01-01T00:00:00Z"})
    (cell,) = judged(reported(40.0), saved, today=TODAY).cells
    finding = cell.measurements[0].finding
    assert finding is not None
    assert finding.drop_db == pytest.approx(1.5)
    assert finding.baseline is not None
    assert (finding.baseline.sha, finding.baseline.figure.value) == ("ab" * 20, 41.5)


def test_cells_that_differ_in_threads_alone_are_held_each_against_its_own() -> None:
    job = spec(policy=DROP, lanes={"engine": ["x86"], "threads": [1, 2]})

    def of(first: float, second: float) -> Report:
        return report(job, "demo", {0: result("0", first), 1: result("1", second)})

    assert judged(of(41.5, 38.0), of(41.5, 38.0), today=TODAY).verdict is Verdict.PASS
    assert judged(of(38.0, 41.5), of(41.5, 38.0), today=TODAY).verdict is Verdict.REGRESSED


def test_a_report_reads_back_as_it_was_written() -> None:
    written = reported(41.5, failed(1), git={"branch": "main"})
    assert Report.model_validate_json(written.model_dump_json(by_alias=True)) == written


def test_a_metric_that_is_not_judged_may_go() -> None:
    (measured,) = result("0").measurements
    fact = measured.replace(metric="prepare_s", place="graph", sums=None)
    coverage = fact.replace(metric="coverage", figure=Figure.finite(1.0))
    saved = reported(result("0", measurements=(measured, fact, coverage)))
    assert judged(reported(41.5), saved, today=TODAY).verdict is Verdict.PASS
    asked = {"rules": {"max_drop_db": 0.5, "coverage_min": 0.9}}
    assert judged(reported(41.5, policy=asked), saved, today=TODAY).verdict is Verdict.REGRESSED
