# ruff: noqa: E501 - a situation a line reads as a table
"""Situations of a gate and the verdict of each; and that the table notices a judge which lets things pass."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.samples import kernel

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.match import Where
from noisefloor.contract.policy import On, Policy
from noisefloor.contract.verdict import Acknowledgement, Baseline, Verdict
from noisefloor.gate import consequence
from noisefloor.gate.evidence import AbsentSeries, CellEvidence, Evidence, Level
from noisefloor.gate.files import Doubt
from noisefloor.gate.judge import Judgement, judge

TODAY = date(2026, 6, 1)
YESTERDAY, TOMORROW = date(2026, 5, 31), date(2026, 6, 2)
EXACT, NAN, ZERO_REF, NO_DB, MISMATCH = (
    Figure.of(kind)
    for kind in (
        FigureKind.EXACT,
        FigureKind.NONFINITE,
        FigureKind.ZERO_REF,
        FigureKind.NOT_APPLICABLE,
        FigureKind.MISMATCH,
    )
)
DIGEST = "d" * 32
PERHAPS, OTHER = Doubt(message="who knows"), Doubt(message="of another commit", certain=True)


def db(value: float) -> Figure:
    return Figure.finite(value)


def base(figure: Figure | float = 40.0, **changes: Any) -> Baseline:
    known = figure if isinstance(figure, Figure) else db(figure)
    values = {"measurement_id": "m", "job_id": "j", "figure": known, "environment": "e" * 32}
    return Baseline.model_validate({**values, **changes})


def cell(
    figure: Figure | float | None = 40.0,
    *,
    engine: str = "x86",
    subject: str = "net",
    status: CellStatus = CellStatus.DONE,
    doubt: Doubt | None = None,
    **evidence: Any,
) -> CellEvidence:
    """A cell with one measurement, or with none."""
    known = figure if isinstance(figure, Figure) or figure is None else db(figure)
    measured = () if known is None else (Evidence.model_validate({"figure": known, **evidence}),)
    where = Where(subject=subject, scheme="static", engine=engine, device="cpu", isa="native")
    return CellEvidence(
        label=f"{subject} · {engine}",
        where=where,
        edges=("float32->true",),
        status=status,
        doubt=doubt,
        measurements=measured,
    )


def cell_of_kernel(
    verdict: str, *, engine: str = "x86", known: str | None = None, levels: tuple[Level, ...] = ()
) -> CellEvidence:
    found = kernel(engine=engine, verdict=verdict, known=known)
    edge = "reference->true"
    return cell(0.0, engine=engine, metric="wrong_cases", edge=edge, conformance=found, levels=levels)


def ended(status: str, engine: str = "x86", doubt: Doubt | None = None) -> CellEvidence:
    return cell(None, engine=engine, status=CellStatus(status), doubt=doubt)


def lost(status: str | None, levels: tuple[Level, ...] = ()) -> AbsentSeries:
    return AbsentSeries(
        series="s" * 32,
        label="net · x86 · float32->true",
        where=Where(subject="net", engine="x86"),
        baseline=base(),
        status=CellStatus(status) if status is not None else None,
        levels=levels,
    )


def level(figure: Figure | float | None, until: date | None = None, *, spent: bool = False) -> Level:
    by = Acknowledgement(kind="acceptance", reason="a smaller model", by="ann", until=until, id="a1")
    known = figure if isinstance(figure, Figure) or figure is None else db(figure)
    return Level(figure=known, by=by, spent=spent)


def rules(**given: Any) -> dict[str, Any]:
    return {"rules": given}


DROP = rules(max_drop_db=0.5)
FLOOR = rules(floor_db=30)
CREEP = rules(max_drop_db=0.5, creep_db={"max": 1.0})
AGREE = rules(floor_db=20, agree_within_db={"across": ["engine"], "max": 3.0})
WAIVED = {**DROP, "waivers": [{"match": {"engine": "x86"}, "until": TODAY, "reason": "known"}]}
NET = {"subject": "net"}


def on(**given: str) -> dict[str, Any]:
    return {"on": given}


def moved(**changes: Any) -> Baseline:
    return base(environment_changed=True, **changes)


# name, policy, cells, missing series, verdict
Row = tuple[str, dict[str, Any], list[CellEvidence], list[AbsentSeries], str]
TABLE: list[Row] = [
    # nothing to judge
    ("no cell at all", DROP, [], [], "no_baseline"),
    ("no rule applies", {}, [cell()], [], "no_baseline"),
    ("the policy matches nothing", {**FLOOR, "match": {"engine": "onednn"}}, [cell()], [], "no_baseline"),
    ("nothing has decibels", DROP, [cell(NO_DB)], [], "no_baseline"),
    ("only one lane, and only agreement asked", rules(agree_within_db={"across": "engine", "max": 3}), [cell()], [], "no_baseline"),
    ("every cell unsupported", DROP, [ended("unsupported")], [], "no_baseline"),
    # floors
    ("above the floor", FLOOR, [cell(30.0)], [], "pass"),
    ("below the floor", FLOOR, [cell(29.999)], [], "regressed"),
    ("exact over a floor", FLOOR, [cell(EXACT)], [], "pass"),
    ("a reference of zeros under a floor", FLOOR, [cell(ZERO_REF)], [], "regressed"),
    ("integers under a floor", FLOOR, [cell(NO_DB)], [], "error"),
    ("the scheme's floor is the higher one", FLOOR, [cell(33.0, floor_db=35.0)], [], "regressed"),
    ("the policy's floor is the higher one", FLOOR, [cell(29.0, floor_db=20.0)], [], "regressed"),
    ("a floor that float32 cannot reach", rules(floor_db=140), [cell(131.0, own_floor=db(132.0))], [], "error"),
    # irregular outputs
    ("NaN over an old NaN", DROP, [cell(NAN, baseline=base(NAN))], [], "regressed"),
    ("NaN without any rule", {}, [cell(NAN)], [], "regressed"),
    ("NaN that only warns, without any rule", on(nonfinite="warn"), [cell(NAN)], [], "no_baseline"),
    ("NaN that is an error", on(nonfinite="error"), [cell(NAN)], [], "error"),
    ("NaN with the baseline's digest", DROP, [cell(NAN, output_digest=DIGEST, baseline=base(output_digest=DIGEST))], [], "regressed"),
    ("another shape", {}, [cell(MISMATCH)], [], "regressed"),
    ("an output of zeros that is exact", FLOOR, [cell(EXACT, zero_output=True)], [], "warn"),
    # drops
    ("as before", DROP, [cell(baseline=base())], [], "pass"),
    ("a drop that is just allowed", DROP, [cell(39.6, baseline=base(40.1))], [], "pass"),
    ("a drop too far", DROP, [cell(39.4, baseline=base())], [], "regressed"),
    ("far better", DROP, [cell(45.0, baseline=base())], [], "pass"),
    ("no baseline", DROP, [cell()], [], "no_baseline"),
    ("no baseline, a warning", {**DROP, **on(no_baseline="warn")}, [cell()], [], "warn"),
    ("no baseline, an error", {**DROP, **on(no_baseline="error")}, [cell()], [], "error"),
    ("exact no more", DROP, [cell(90.0, baseline=base(EXACT))], [], "regressed"),
    ("exact as before", DROP, [cell(EXACT, baseline=base(EXACT))], [], "pass"),
    ("decibels no more", DROP, [cell(NO_DB, baseline=base())], [], "regressed"),
    ("decibels for the first time", DROP, [cell(baseline=base(NO_DB))], [], "no_baseline"),
    ("a reference of zeros where there were decibels", DROP, [cell(ZERO_REF, baseline=base())], [], "regressed"),
    ("float32's own noise moved", DROP, [cell(130.0, own_floor=db(132.0), baseline=base(150.0))], [], "pass"),
    ("the same bytes while the reference moved", DROP, [cell(35.0, output_digest=DIGEST, baseline=base(output_digest=DIGEST))], [], "pass"),
    ("the same bytes in another environment", DROP, [cell(35.0, output_digest=DIGEST, baseline=moved(output_digest=DIGEST))], [], "regressed"),
    ("no digest on either side is no sameness", DROP, [cell(35.0, baseline=base())], [], "regressed"),
    # the environment
    ("another environment is named", DROP, [cell(baseline=moved())], [], "pass"),
    ("another environment warns", {**DROP, **on(environment_changed="warn")}, [cell(baseline=moved())], [], "warn"),
    ("another environment fails", {**DROP, **on(environment_changed="fail")}, [cell(baseline=moved())], [], "regressed"),
    ("another environment is an error", {**DROP, **on(environment_changed="error")}, [cell(baseline=moved())], [], "error"),
    # improvement
    ("far better under require_rebaseline", {**DROP, "on_improvement": "require_rebaseline"}, [cell(45.0, baseline=base())], [], "no_baseline"),
    ("exact under require_rebaseline", {**DROP, "on_improvement": "require_rebaseline"}, [cell(EXACT, baseline=base())], [], "no_baseline"),
    ("a little better under require_rebaseline", {**DROP, "on_improvement": "require_rebaseline"}, [cell(40.4, baseline=base())], [], "pass"),
    ("far better, and accepted", {**DROP, "on_improvement": "require_rebaseline"}, [cell(45.0, baseline=base(), levels=(level(45.1),))], [], "acknowledged"),
    # creep
    ("creep within what is allowed", CREEP, [cell(39.8, baseline=base(), anchor=base(40.5))], [], "pass"),
    ("creep too far by small steps", CREEP, [cell(39.8, baseline=base(), anchor=base(40.9))], [], "regressed"),
    ("creep without a release", CREEP, [cell(baseline=base())], [], "no_baseline"),
    ("creep from exact", CREEP, [cell(baseline=base(), anchor=base(EXACT))], [], "regressed"),
    # agreement
    ("lanes agree", AGREE, [cell(40.0), cell(38.0, engine="onednn")], [], "pass"),
    ("one lane is far below the other", AGREE, [cell(40.0), cell(36.0, engine="onednn")], [], "regressed"),
    ("one lane is exact, the other not", AGREE, [cell(EXACT), cell(60.0, engine="onednn")], [], "regressed"),
    ("one lane has NaN", AGREE, [cell(NAN), cell(60.0, engine="onednn")], [], "regressed"),
    ("another subject is no lane", AGREE, [cell(40.0), cell(30.0, engine="onednn", subject="other")], [], "warn"),
    # coverage
    ("coverage reached", rules(coverage_min=0.9), [cell(0.9, metric="coverage", place="graph")], [], "pass"),
    ("coverage not reached", rules(coverage_min=0.9), [cell(0.8, metric="coverage", place="graph")], [], "regressed"),
    ("coverage that is no number", rules(coverage_min=0.9), [cell(NO_DB, metric="coverage", place="graph")], [], "error"),
    ("a match of the output leaves coverage in", {**rules(coverage_min=0.9), "match": {"place": "output"}}, [cell(0.8, metric="coverage", place="graph")], [], "regressed"),
    # what was found of a kernel
    ("a kernel that is right", {}, [cell_of_kernel("within_1_lsb")], [], "pass"),
    ("a kernel at fault", {}, [cell_of_kernel("wrong")], [], "regressed"),
    ("a kernel at fault, a warning", on(conformance="warn"), [cell_of_kernel("wrong")], [], "warn"),
    ("a kernel at fault, an error", on(conformance="error"), [cell_of_kernel("crashes")], [], "error"),
    ("a kernel's fault is known", {}, [cell_of_kernel("wrong", known="saturates")], [], "acknowledged"),
    ("a kernel's fault is waived", WAIVED, [cell_of_kernel("wrong")], [], "acknowledged"),
    ("a kernel's fault is under an accepted figure", {}, [cell_of_kernel("wrong", levels=(level(0.0),))], [], "regressed"),
    ("a kernel of which nothing was found", {}, [cell(0.0, metric="wrong_cases", edge="reference->true")], [], "error"),
    ("a kernel at fault that the policy leaves out", {**FLOOR, "match": {"engine": "x86"}}, [cell(), cell_of_kernel("wrong", engine="onednn")], [], "pass"),
    # cells that gave nothing
    ("one cell unsupported", FLOOR, [cell(), ended("unsupported", "onednn")], [], "warn"),
    ("one cell unsupported, which fails", {**FLOOR, **on(unsupported="fail")}, [cell(), ended("unsupported", "onednn")], [], "regressed"),
    ("one cell failed", FLOOR, [cell(), ended("failed", "onednn")], [], "error"),
    ("one cell timed out, a warning", {**FLOOR, **on(worker_error="warn")}, [cell(), ended("timed_out", "onednn")], [], "warn"),
    ("one cell cancelled under the mildest policy", {**FLOOR, **on(worker_error="warn")}, [cell(), ended("cancelled", "onednn")], [], "error"),
    ("a cell still queued", FLOOR, [cell(), ended("queued", "onednn")], [], "error"),
    ("a failed cell that the policy leaves out", {**FLOOR, "match": {"engine": "x86"}}, [cell(), ended("failed", "onednn")], [], "pass"),
    ("a crash beside a loss", FLOOR, [cell(29.0), ended("crashed", "onednn")], [], "regressed"),
    # whose files were measured
    ("perhaps other files", FLOOR, [cell(doubt=PERHAPS)], [], "warn"),
    ("perhaps other files, which fails", {**FLOOR, **on(unknown_files="fail")}, [cell(doubt=PERHAPS)], [], "regressed"),
    ("perhaps other files, an error", {**FLOOR, **on(unknown_files="error")}, [cell(doubt=PERHAPS)], [], "error"),
    ("perhaps other files beside a loss", FLOOR, [cell(29.0, doubt=PERHAPS)], [], "regressed"),
    ("perhaps other files, and no rule applies", {}, [cell(doubt=PERHAPS)], [], "no_baseline"),
    ("perhaps other files of a failed cell", {**FLOOR, **on(worker_error="warn")}, [cell(), ended("failed", "onednn", PERHAPS)], [], "warn"),
    ("perhaps other files of a graph that is judged", rules(coverage_min=0.9), [cell(0.9, metric="coverage", place="graph", doubt=PERHAPS)], [], "warn"),
    ("perhaps other files are waived", {**WAIVED, **on(unknown_files="fail")}, [cell(baseline=base(), doubt=PERHAPS)], [], "acknowledged"),
    ("other files", FLOOR, [cell(doubt=OTHER)], [], "error"),
    ("other files under the mildest policy", {**FLOOR, **on(unknown_files="warn", worker_error="warn")}, [cell(doubt=OTHER)], [], "error"),
    ("other files that were refused, under the mildest policy", {**FLOOR, **on(unknown_files="warn", worker_error="warn")}, [cell(), ended("failed", "onednn", OTHER)], [], "error"),
    ("other files, and no rule applies", {}, [cell(doubt=OTHER)], [], "error"),
    ("other files of the baseline's very output", DROP, [cell(output_digest=DIGEST, baseline=base(output_digest=DIGEST), doubt=OTHER)], [], "error"),
    ("other files under an accepted figure and a waiver", WAIVED, [cell(baseline=base(), levels=(level(40.0),), doubt=OTHER)], [], "error"),
    ("other files that the policy leaves out", {**FLOOR, "match": {"engine": "x86"}}, [cell(), cell(engine="onednn", doubt=OTHER)], [], "pass"),
    # missing series
    ("a lane left the job", DROP, [cell(baseline=base())], [lost(None)], "regressed"),
    ("a place left the output", DROP, [cell(baseline=base())], [lost("done")], "regressed"),
    ("a lane is unsupported now", DROP, [cell(baseline=base()), ended("unsupported", "onednn")], [lost("unsupported")], "regressed"),
    ("a series missing for a crash", {**DROP, **on(worker_error="warn")}, [cell(baseline=base()), ended("crashed", "onednn")], [lost("crashed")], "error"),
    ("a missing series warns", {**DROP, **on(missing_series="warn")}, [cell(baseline=base())], [lost(None)], "warn"),
    ("a missing series, and it was accepted", DROP, [cell(baseline=base())], [lost(None, (level(None),))], "acknowledged"),
    ("a missing series, and a figure was accepted", DROP, [cell(baseline=base())], [lost(None, (level(37.0),))], "regressed"),
    # acceptances and waivers
    ("an accepted drop", DROP, [cell(37.0, baseline=base(), levels=(level(37.0),))], [], "acknowledged"),
    ("a drop within what is allowed below the accepted level", DROP, [cell(36.6, baseline=base(), levels=(level(37.0),))], [], "acknowledged"),
    ("a drop further than was accepted", DROP, [cell(36.0, baseline=base(), levels=(level(37.0),))], [], "regressed"),
    ("an acceptance on its last day", DROP, [cell(37.0, baseline=base(), levels=(level(37.0, TODAY),))], [], "acknowledged"),
    ("an acceptance that has ended", DROP, [cell(37.0, baseline=base(), levels=(level(37.0, YESTERDAY),))], [], "regressed"),
    ("an acceptance that the baseline has behind it", DROP, [cell(37.0, baseline=base(), levels=(level(37.0, spent=True),))], [], "regressed"),
    ("an accepted floor holds on", FLOOR, [cell(29.0, levels=(level(29.0, spent=True),))], [], "acknowledged"),
    ("an accepted drop with NaN", DROP, [cell(NAN, baseline=base(), levels=(level(37.0),))], [], "regressed"),
    ("an accepted NaN", DROP, [cell(NAN, baseline=base(), levels=(level(NAN),))], [], "regressed"),
    ("an accepted drop, and creep without a release", CREEP, [cell(37.0, baseline=base(), levels=(level(37.0),))], [], "no_baseline"),
    ("an accepted drop beside another loss", DROP, [cell(37.0, baseline=base(), levels=(level(37.0),)), cell(37.0, engine="onednn", baseline=base())], [], "regressed"),
    ("an accepted level does not stand in for a baseline", DROP, [cell(37.0, levels=(level(37.0),))], [], "no_baseline"),
    ("a waiver on its last day", WAIVED, [cell(37.0, baseline=base())], [], "acknowledged"),
    ("a waiver of another lane", WAIVED, [cell(37.0, engine="onednn", baseline=base())], [], "regressed"),
    ("a waiver covers no error", WAIVED, [cell(baseline=base()), ended("crashed")], [], "error"),
    ("a waiver covers no lack of a baseline", WAIVED, [cell()], [], "no_baseline"),
    # overrides and mode
    ("a wider limit for one subject", {**DROP, "overrides": [{"match": NET, **rules(max_drop_db=2)}]}, [cell(39.0, baseline=base())], [], "pass"),
    ("a wider limit for another subject", {**DROP, "overrides": [{"match": {"subject": "lstm*"}, **rules(max_drop_db=2)}]}, [cell(39.0, baseline=base())], [], "regressed"),
    ("the last override that matches counts", {**DROP, "overrides": [{"match": NET, **rules(max_drop_db=2)}, {"match": NET, **rules(max_drop_db=0.1)}]}, [cell(39.8, baseline=base())], [], "regressed"),
    ("a loss under an informational policy", {**DROP, "mode": "informational"}, [cell(39.0, baseline=base())], [], "warn"),
    ("nothing judged under an informational policy", {"mode": "informational"}, [cell()], [], "warn"),
]  # fmt: skip


def verdict_of(row: Row) -> Judgement:
    _, policy, cells, absent, _ = row
    return judge(Policy.model_validate(policy), cells, today=TODAY, absent=absent)


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_situation(row: Row) -> None:
    judgement = verdict_of(row)
    assert judgement.verdict.value == row[-1], judgement.message
    assert judgement.message


@given(
    figure=st.sampled_from([NAN, MISMATCH, ZERO_REF]),
    before=st.none() | st.sampled_from([db(40.0), EXACT, NAN, NO_DB]),
    accepted=st.lists(st.sampled_from([db(-100.0), EXACT, NAN, None]), max_size=2),
    rule=st.sampled_from([DROP, FLOOR, CREEP, AGREE]),
    on=st.fixed_dictionaries(
        {outcome: st.sampled_from(["warn", "fail", "error"]) for outcome in On.model_fields}
    ),
    improvement=st.sampled_from(["allow", "require_rebaseline"]),
    missing=st.lists(st.sampled_from([lost(None), lost("done"), lost("crashed")]), max_size=1),
)
def test_what_is_no_number_never_passes_nor_is_it_acknowledged_by_a_level(
    *,
    figure: Figure,
    before: Figure | None,
    accepted: list[Figure | None],
    rule: dict[str, Any],
    on: dict[str, str],
    improvement: str,
    missing: list[AbsentSeries],
) -> None:
    held = base(before) if before is not None else None
    measured = cell(
        figure,
        engine="onednn",
        baseline=held,
        anchor=held,
        output_digest=DIGEST,
        levels=tuple(level(one) for one in accepted),
    )
    needs_drop = rule in (DROP, CREEP)
    policy = {**rule, "on": on, "on_improvement": improvement if needs_drop else "allow"}
    verdict = judge(Policy.model_validate(policy), [cell(), measured], today=TODAY, absent=missing).verdict
    assert verdict not in {Verdict.PASS, Verdict.ACKNOWLEDGED}


def test_the_table_is_of_forty_situations_and_names_each_once() -> None:
    assert len({row[0] for row in TABLE}) == len(TABLE) >= 40
    passing = {row[0] for row in TABLE if row[-1] == "pass"}
    assert len(passing) < len(TABLE) / 3


def unnoticed(led_to: Callable[[On, str], Verdict | None], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the table stays as it is under another meaning of consequences."""
    with monkeypatch.context() as patch:
        patch.setattr(consequence, "led_to", led_to)
        return all(verdict_of(row).verdict.value == row[-1] for row in TABLE)


@pytest.mark.parametrize("outcome", On.model_fields)
def test_a_judge_that_lets_an_outcome_pass_is_noticed(outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = consequence.led_to
    assert not unnoticed(
        lambda on, which: Verdict.PASS if which == outcome else right(on, which), monkeypatch
    )
    assert unnoticed(right, monkeypatch)


@pytest.mark.parametrize("given", ["warn", "fail", "error"])
def test_a_judge_that_takes_a_consequence_for_a_pass_is_noticed(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(consequence.CONSEQUENCES, given, Verdict.PASS)  # type: ignore[arg-type]
    assert any(verdict_of(row).verdict.value != row[-1] for row in TABLE)


def test_an_acceptance_that_ended_is_said_so() -> None:
    accepted = level(37.0, YESTERDAY)
    finding = (
        judge(Policy.model_validate(DROP), [cell(37.0, baseline=base(), levels=(accepted,))], today=TODAY)
        .cells[0]
        .measurements[0]
    )
    assert finding is not None
    assert finding.message.endswith("; the acceptance of ann ended on 2026-05-31")
    assert finding.acknowledged is None


def test_a_waiver_that_ended_counts_no_more_and_is_said_so() -> None:
    policy = Policy.model_validate(WAIVED)
    finding = judge(policy, [cell(37.0, baseline=base())], today=TOMORROW).cells[0].measurements[0]
    assert finding is not None
    assert finding.verdict is Verdict.REGRESSED
    assert finding.message.endswith("; the waiver ended on 2026-06-01")


def test_what_is_acknowledged_keeps_what_was_found_and_says_who_let_it_through() -> None:
    finding = (
        judge(
            Policy.model_validate(DROP),
            [cell(37.0, baseline=base(), levels=(level(37.0, TOMORROW),))],
            today=TODAY,
        )
        .cells[0]
        .measurements[0]
    )
    assert finding is not None
    assert (finding.rule, finding.drop_db) == ("max_drop_db", 3.0)
    assert finding.acknowledged is not None
    assert (finding.acknowledged.by, finding.acknowledged.reason) == ("ann", "a smaller model")
    assert finding.acknowledged.until == TOMORROW


def test_what_is_missing_is_named_and_what_is_common_is_counted() -> None:
    judgement = judge(
        Policy.model_validate(DROP),
        [cell(baseline=base()), cell(engine="onednn")],
        today=TODAY,
        absent=[lost(None)],
    )
    assert judgement.message == (
        "1 regressed, 1 no_baseline, 1 pass; net · x86 · float32->true: "
        "missing: the baseline had 40.000 dB, the job does not measure it"
    )
    compared = judgement.compared
    assert (compared.common, compared.missing, compared.without_baseline) == (1, 1, 1)


def test_creep_is_caught_where_no_single_drop_is() -> None:
    """Five losses of 0.3 dB under a largest drop of 0.5: the fourth is more than 1 dB below the release."""
    verdicts = [
        verdict_of(
            ("", CREEP, [cell(40.0 - 0.3 * n, baseline=base(40.3 - 0.3 * n), anchor=base())], [], "")
        ).verdict.value
        for n in range(1, 6)
    ]
    assert verdicts == ["pass", "pass", "pass", "regressed", "regressed"]
