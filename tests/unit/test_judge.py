"""Facts in, verdict out: each rule by itself. `test_gate.py` has whole situations."""

from datetime import date

import pytest

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.policy import On, Policy, Rules
from noisefloor.contract.verdict import Baseline, Finding, Verdict
from noisefloor.gate.evidence import CellEvidence, Evidence
from noisefloor.gate.judge import Judgement, judge_cell
from noisefloor.gate.judge import judge as judge_on
from noisefloor.gate.judge import judge_measurement as judge_measurement_on

EXACT = Figure.of(FigureKind.EXACT)
DROP = Policy(rules=Rules(max_drop_db=0.5))
TODAY = date(2026, 6, 1)


def judge(policy: Policy, cells: list[CellEvidence]) -> Judgement:
    return judge_on(policy, cells, today=TODAY)


def judge_measurement(policy: Policy, evidence: Evidence) -> Finding | None:
    return judge_measurement_on(policy, evidence, today=TODAY)


def db(value: float) -> Figure:
    return Figure.finite(value)


def before(figure: Figure) -> Baseline:
    return Baseline(measurement_id="m", job_id="j", figure=figure)


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (db(30.0), Verdict.PASS),
        (db(29.999), Verdict.REGRESSED),
        (db(-3.0), Verdict.REGRESSED),
        (EXACT, Verdict.PASS),
        (Figure.of(FigureKind.ZERO_REF), Verdict.REGRESSED),
        (Figure.of(FigureKind.NONFINITE), Verdict.REGRESSED),
        (Figure.of(FigureKind.MISMATCH), Verdict.REGRESSED),
        (Figure.of(FigureKind.NOT_APPLICABLE), Verdict.ERROR),
    ],
)
def test_floor(figure: Figure, verdict: Verdict) -> None:
    finding = judge_measurement(Policy(), Evidence(figure=figure, floor_db=30.0))
    assert finding is not None
    assert finding.verdict is verdict
    assert finding.floor_db == 30.0


@pytest.mark.parametrize(
    ("baseline", "figure", "verdict", "drop_db"),
    [
        (db(40.0), db(39.6), Verdict.PASS, 0.4),
        (db(40.0), db(39.5), Verdict.PASS, 0.5),
        (db(40.0), db(39.0), Verdict.REGRESSED, 1.0),
        (db(40.0), db(45.0), Verdict.PASS, -5.0),
        (db(40.0), EXACT, Verdict.PASS, None),
        (EXACT, db(200.0), Verdict.REGRESSED, None),
        (EXACT, EXACT, Verdict.PASS, None),
        (db(40.0), Figure.of(FigureKind.ZERO_REF), Verdict.REGRESSED, None),
        (None, db(40.0), Verdict.NO_BASELINE, None),
        (None, EXACT, Verdict.NO_BASELINE, None),
    ],
)
def test_drop(baseline: Figure | None, figure: Figure, verdict: Verdict, drop_db: float | None) -> None:
    evidence = Evidence(figure=figure, baseline=before(baseline) if baseline else None)
    finding = judge_measurement(DROP, evidence)
    assert finding is not None
    assert finding.verdict is verdict
    assert finding.drop_db == (pytest.approx(drop_db) if drop_db is not None else None)


def test_the_worst_rule_decides() -> None:
    finding = judge_measurement(DROP, Evidence(figure=db(35.0), floor_db=30.0, baseline=before(db(40.0))))
    assert finding is not None
    assert (finding.verdict, finding.rule, finding.floor_db) == (Verdict.REGRESSED, "max_drop_db", 30.0)


def test_nothing_is_found_where_no_rule_applies() -> None:
    assert judge_measurement(Policy(), Evidence(figure=db(10.0))) is None


@pytest.mark.parametrize("kind", [FigureKind.NONFINITE, FigureKind.MISMATCH])
def test_a_broken_output_is_found_without_any_rule(kind: FigureKind) -> None:
    finding = judge_measurement(Policy(), Evidence(figure=Figure.of(kind)))
    assert finding is not None
    assert finding.verdict is Verdict.REGRESSED


def test_an_output_of_zeros_never_passes_unremarked() -> None:
    finding = judge_measurement(Policy(), Evidence(figure=EXACT, zero_output=True, floor_db=30.0))
    assert finding is not None
    assert finding.verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (CellStatus.UNSUPPORTED, Verdict.WARN),
        (CellStatus.FAILED, Verdict.ERROR),
        (CellStatus.TIMED_OUT, Verdict.ERROR),
        (CellStatus.OUT_OF_MEMORY, Verdict.ERROR),
        (CellStatus.CRASHED, Verdict.ERROR),
        (CellStatus.CANCELLED, Verdict.ERROR),
        (CellStatus.QUEUED, Verdict.ERROR),
    ],
)
def test_a_cell_without_measurements_is_no_pass(status: CellStatus, verdict: Verdict) -> None:
    finding = judge_cell(Policy(), status, "why")
    assert finding is not None
    assert finding.verdict is verdict
    assert "why" in finding.message


def test_a_cancelled_cell_is_an_error_under_the_mildest_policy() -> None:
    finding = judge_cell(Policy(on=On(worker_error="warn")), CellStatus.CANCELLED, None)
    assert finding is not None
    assert finding.verdict is Verdict.ERROR


def cell(
    *figures: float, floor_db: float | None = 30.0, status: CellStatus = CellStatus.DONE
) -> CellEvidence:
    evidence = tuple(Evidence(figure=db(figure), floor_db=floor_db) for figure in figures)
    return CellEvidence(label="net · static · x86", status=status, reason="why", measurements=evidence)


def test_a_job_in_which_nothing_was_judged_does_not_pass() -> None:
    unsupported = cell(status=CellStatus.UNSUPPORTED)
    assert judge(Policy(), [cell(40.0, floor_db=None)]).verdict is Verdict.NO_BASELINE
    assert judge(Policy(), [unsupported]).verdict is Verdict.NO_BASELINE
    assert judge(DROP, [unsupported]).verdict is Verdict.NO_BASELINE
    assert judge(Policy(), []).verdict is Verdict.NO_BASELINE
    assert judge(Policy(), [unsupported, cell(40.0)]).verdict is Verdict.WARN


def test_the_verdict_is_the_worst_finding_and_says_where() -> None:
    judgement = judge(Policy(), [cell(40.0), cell(29.0), cell(41.0)])
    assert judgement.verdict is Verdict.REGRESSED
    assert judgement.message == (
        "1 regressed, 2 pass; net · static · x86 · float32->true: "
        "29.000 dB is 1.000 dB below the floor of 30.000 dB"
    )
    assert [[f.verdict for f in found.measurements if f] for found in judgement.cells] == [
        [Verdict.PASS],
        [Verdict.REGRESSED],
        [Verdict.PASS],
    ]


def test_a_definite_loss_outweighs_what_could_not_be_evaluated() -> None:
    crashed = cell(status=CellStatus.CRASHED)
    assert judge(Policy(), [crashed, cell(40.0)]).verdict is Verdict.ERROR
    assert judge(Policy(), [crashed, cell(29.0)]).verdict is Verdict.REGRESSED


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.PASS, 0),
        (Verdict.ACKNOWLEDGED, 0),
        (Verdict.WARN, 0),
        (Verdict.REGRESSED, 1),
        (Verdict.ERROR, 2),
        (Verdict.PENDING, 2),
        (Verdict.NO_BASELINE, 3),
    ],
)
def test_exit_codes(verdict: Verdict, code: int) -> None:
    assert verdict.exit_code == code


@pytest.mark.parametrize(
    ("own_floor", "figure", "baseline", "floor_db", "verdict", "rule"),
    [
        (db(133.0), db(131.0), db(150.0), None, Verdict.PASS, "own_floor"),
        (db(133.0), db(131.0), EXACT, None, Verdict.PASS, "own_floor"),
        (db(133.0), db(129.9), db(150.0), None, Verdict.REGRESSED, "max_drop_db"),
        (None, db(131.0), db(150.0), None, Verdict.REGRESSED, "max_drop_db"),
        (EXACT, db(131.0), db(150.0), None, Verdict.REGRESSED, "max_drop_db"),
        (db(133.0), db(131.0), None, None, Verdict.NO_BASELINE, "on.no_baseline"),
        (db(133.0), db(131.0), db(131.0), 140.0, Verdict.ERROR, "own_floor"),
        (db(133.0), db(131.0), db(131.0), 60.0, Verdict.PASS, None),
        (db(50.0), db(30.0), db(30.0), 40.0, Verdict.REGRESSED, "floor_db"),
    ],
)
def test_a_figure_that_is_float32s_own_noise_is_not_held_against_another(
    *,
    own_floor: Figure | None,
    figure: Figure,
    baseline: Figure | None,
    floor_db: float | None,
    verdict: Verdict,
    rule: str | None,
) -> None:
    finding = judge_measurement(
        DROP,
        Evidence(
            figure=figure,
            own_floor=own_floor,
            floor_db=floor_db,
            baseline=before(baseline) if baseline else None,
        ),
    )
    assert finding is not None
    assert finding.verdict is verdict
    assert rule is None or finding.rule == rule
    assert finding.drop_db is None or finding.rule != "own_floor"


@pytest.mark.parametrize(
    ("coverage_min", "figure", "verdict"),
    [
        (None, db(0.1), None),
        (0.9, db(0.9), Verdict.PASS),
        (0.9, db(0.89), Verdict.REGRESSED),
        (0.9, Figure.of(FigureKind.NOT_APPLICABLE), Verdict.ERROR),
    ],
)
def test_coverage(coverage_min: float | None, figure: Figure, verdict: Verdict | None) -> None:
    policy = Policy(rules=Rules(coverage_min=coverage_min, max_drop_db=0.5))
    finding = judge_measurement(policy, Evidence(metric="coverage", place="graph", figure=figure))
    assert (finding.verdict if finding else None) is verdict


def test_what_is_no_ratio_is_not_judged_in_decibels() -> None:
    evidence = Evidence(metric="coverage", figure=db(1.0), floor_db=30.0, baseline=before(db(50.0)))
    assert judge_measurement(DROP, evidence) is None
