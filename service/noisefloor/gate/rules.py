"""The rules about one measurement: each takes evidence and gives a finding, or None where it does not apply.

`tolerance_db` is how far below a level that somebody accepted a breach of the rule is still covered. What is
not a number of its own (NaN, another shape) has none: no level covers it.
"""

from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.measurement import OUTPUT
from noisefloor.contract.policy import Policy, Rules
from noisefloor.contract.verdict import Baseline, Finding, Verdict
from noisefloor.gate import consequence
from noisefloor.gate.evidence import Evidence
from noisefloor.gate.files import Doubt

ROUNDING_DB = 1e-9  # 40.1 - 39.6 is not quite 0.5 in binary


def outcome(policy: Policy, evidence: Evidence) -> Finding | None:
    """Kinds that mean something under every policy."""
    kind = evidence.figure.kind
    if kind is FigureKind.NONFINITE:
        verdict = consequence.led_to(policy.on, "nonfinite")
        return _finding(verdict, "on.nonfinite", "the output has NaN or infinite elements")
    if kind is FigureKind.MISMATCH:
        return _finding(Verdict.REGRESSED, "mismatch", "the outputs differ in structure, shape or dtype")
    if evidence.zero_output and kind is not FigureKind.NOT_APPLICABLE:
        return _finding(Verdict.WARN, "zero_output", "the output is zero throughout")
    return None


def floor_under(rules: Rules, evidence: Evidence) -> float | None:
    """The higher of the scheme's floor and the policy's, which is about whole outputs."""
    of_policy = rules.floor_db if evidence.place == OUTPUT else None
    return max((db for db in (evidence.floor_db, of_policy) if db is not None), default=None)


def floor(rules: Rules, evidence: Evidence) -> Finding | None:
    """`floor_db`."""
    floor_db, figure = floor_under(rules, evidence), evidence.figure
    if floor_db is None:
        return None
    if figure.kind is FigureKind.EXACT:
        return _finding(Verdict.PASS, "floor_db", "exact")
    if figure.kind is FigureKind.NOT_APPLICABLE:
        message = "a floor in dB does not apply: no element of the output is a real number"
        return _finding(Verdict.ERROR, "floor_db", message)
    if figure.value is None:
        return _finding(Verdict.REGRESSED, "floor_db", f"{figure} instead of {floor_db:.3f} dB or more")
    return _above_floor(rules, evidence, floor_db, figure.value)


def drop(policy: Policy, rules: Rules, evidence: Evidence) -> Finding | None:
    """`max_drop_db` against the baseline, and `on_improvement`."""
    limit_db, baseline = rules.max_drop_db, evidence.baseline
    if limit_db is None or _has_no_decibels(evidence, baseline):
        return None
    if baseline is None or baseline.figure.kind is FigureKind.NOT_APPLICABLE:
        message = evidence.unfound or "no accepted result of this series on the branch to compare with"
        return without_baseline(policy, message if baseline is None else "the baseline has no decibels")
    if _is_unchanged(evidence, baseline):
        return _finding(Verdict.PASS, "unchanged", "the output is the baseline's, bit for bit", drop_db=0.0)
    found = against(evidence, baseline, limit_db, rule="max_drop_db", what="the baseline")
    if policy.on_improvement == "require_rebaseline" and (said := _improved(evidence, baseline, limit_db)):
        message = f"{said}: accept or pin the new level"
        return found.replace(
            verdict=Verdict.NO_BASELINE, rule="on_improvement", message=message, tolerance_db=limit_db
        )
    return found


def environment(policy: Policy, evidence: Evidence) -> Finding | None:
    """`on.environment_changed`, where it is more than naming the change."""
    if evidence.baseline is None or not evidence.baseline.environment_changed:
        return None
    verdict = consequence.led_to(policy.on, "environment_changed")
    if verdict is None:
        return None
    message = "measured in another environment than the baseline"
    tolerance_db = 0.0 if evidence.figure.value is not None else None
    return _finding(verdict, "on.environment_changed", message, tolerance_db=tolerance_db)


def files(policy: Policy, doubt: Doubt | None) -> Finding | None:
    """That a result is another commit's under every policy; `on.unknown_files` where it may be."""
    if doubt is None:
        return None
    if doubt.certain:
        return _finding(Verdict.ERROR, "other_files", doubt.message)
    return _finding(consequence.led_to(policy.on, "unknown_files"), "on.unknown_files", doubt.message)


def coverage(rules: Rules, evidence: Evidence) -> Finding | None:
    """`coverage_min`."""
    least, figure = rules.coverage_min, evidence.figure
    if least is None or evidence.metric != "coverage":
        return None
    if figure.value is None:
        return _finding(Verdict.ERROR, "coverage_min", f"the coverage is {figure}")
    verdict = Verdict.PASS if figure.value >= least else Verdict.REGRESSED
    message = f"{figure.value:.3f} of what could be quantized is; {least:.3f} is the least allowed"
    return _finding(verdict, "coverage_min", message, tolerance_db=0.0, limit=least)


def against(evidence: Evidence, earlier: Baseline, limit_db: float, *, rule: str, what: str) -> Finding:
    """A figure held against an earlier one that is a number or exact."""
    figure, before = evidence.figure, earlier.figure
    if figure.kind is FigureKind.EXACT:
        return _finding(Verdict.PASS, rule, "exact")
    if figure.value is None:
        return _finding(Verdict.REGRESSED, rule, f"{figure}; {what} was {before}")
    if evidence.is_own_floor:
        message = f"{figure} dB is as good as float32 itself ({evidence.own_floor} dB): no drop is judged"
        return _finding(Verdict.PASS, "own_floor", message)
    if before.value is None:
        message = f"{figure} dB; {what} was {before}"
        return _finding(Verdict.REGRESSED, rule, message, tolerance_db=limit_db)
    drop_db = before.value - figure.value
    verdict = Verdict.REGRESSED if drop_db > limit_db + ROUNDING_DB else Verdict.PASS
    against_what = "" if rule == "max_drop_db" else f" of {what}"
    message = (
        f"{figure} dB against {before} dB{against_what}: a drop of {drop_db:.3f} dB, {limit_db:.3f} allowed"
    )
    if verdict is Verdict.REGRESSED and earlier.environment_changed:
        message += "; the environment changed as well"
    return _finding(verdict, rule, message, drop_db=drop_db, tolerance_db=limit_db)


def without_baseline(policy: Policy, message: str) -> Finding:
    """There is nothing to hold it against."""
    return _finding(consequence.led_to(policy.on, "no_baseline"), "on.no_baseline", message)


def _above_floor(rules: Rules, evidence: Evidence, floor_db: float, value: float) -> Finding:
    figure = evidence.figure
    if value >= floor_db:
        message = f"{figure} dB is {value - floor_db:.3f} dB above the floor of {floor_db:.3f} dB"
        return _finding(Verdict.PASS, "floor_db", message)
    if evidence.is_own_floor:
        own = evidence.own_floor
        message = f"float32 itself ends at {own} dB here: a floor of {floor_db:.3f} dB cannot be judged"
        return _finding(Verdict.ERROR, "own_floor", message)
    message = f"{figure} dB is {floor_db - value:.3f} dB below the floor of {floor_db:.3f} dB"
    tolerance_db = rules.max_drop_db or 0.0
    return _finding(Verdict.REGRESSED, "floor_db", message, tolerance_db=tolerance_db, limit=floor_db)


def _has_no_decibels(evidence: Evidence, baseline: Baseline | None) -> bool:
    """Neither now nor before: integers and booleans, where no drop can be judged."""
    before = None if baseline is None else baseline.figure
    nothing = Figure.of(FigureKind.NOT_APPLICABLE)
    return evidence.figure == nothing and before in {None, nothing}


def _is_unchanged(evidence: Evidence, baseline: Baseline) -> bool:
    """The exact tier: the same bytes, under the same environment."""
    same = evidence.output_digest is not None and evidence.output_digest == baseline.output_digest
    return same and baseline.environment is not None and not baseline.environment_changed


def _improved(evidence: Evidence, baseline: Baseline, limit_db: float) -> str | None:
    figure, before = evidence.figure, baseline.figure
    if before.value is None or evidence.is_own_floor:
        return None
    if figure.kind is FigureKind.EXACT:
        return f"exact, and the baseline was {before} dB"
    if figure.value is None or figure.value - before.value <= limit_db + ROUNDING_DB:
        return None
    return f"{figure} dB is {figure.value - before.value:.3f} dB above the baseline"


def _finding(
    verdict: Verdict | None,
    rule: str,
    message: str,
    *,
    drop_db: float | None = None,
    tolerance_db: float | None = None,
    limit: float | None = None,
) -> Finding:
    if verdict is None:
        raise ValueError(f"{rule} leads to no verdict")
    kept = None if verdict is Verdict.PASS else tolerance_db
    return Finding(
        verdict=verdict, rule=rule, message=message, drop_db=drop_db, tolerance_db=kept, limit=limit
    )
