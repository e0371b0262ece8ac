"""The judge: what a policy says of measurements, of cells that gave none, and of a job as a whole."""

from collections import Counter
from collections.abc import Iterator, Sequence

from noisefloor.contract.base import Value
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import OUTPUT, SQNR, WRONG_CASES, Metric
from noisefloor.contract.policy import Consequence, Policy
from noisefloor.contract.scheme import Edge, Scheme
from noisefloor.contract.verdict import Baseline, Finding, Verdict
from noisefloor.gate.conformance import judge_conformance

HALF_OF_THE_NOISE_DB = 3.0
CONSEQUENCES: dict[Consequence, Verdict] = {
    "warn": Verdict.WARN,
    "fail": Verdict.REGRESSED,
    "error": Verdict.ERROR,
}


class Evidence(Value):
    """What is known of one measurement when it is judged."""

    edge: Edge = "float32->true"
    place: str = OUTPUT
    metric: Metric = SQNR
    figure: Figure
    own_floor: Figure | None = None
    zero_output: bool = False
    floor_db: float | None = None
    baseline: Baseline | None = None
    conformance: Conformance | None = None


class CellEvidence(Value):
    """What is known of one cell when it is judged."""

    label: str
    status: CellStatus
    reason: str | None = None
    measurements: tuple[Evidence, ...] = ()


class CellFindings(Value):
    """What is found of a cell: of the cell itself if it gave no measurement, and of each measurement."""

    cell: Finding | None
    measurements: tuple[Finding | None, ...]


class Judgement(Value):
    """The verdict of a job, a sentence, and the findings of each cell."""

    verdict: Verdict
    message: str
    cells: tuple[CellFindings, ...]


def judge(policy: Policy, cells: Sequence[CellEvidence]) -> Judgement:
    """Apply a policy to a job's results.

    Where no rule in dB applies to any measurement there is nothing that could pass: `no_baseline`.
    """
    findings = tuple(
        CellFindings(
            cell=judge_cell(policy, cell.status, cell.reason),
            measurements=tuple(judge_measurement(policy, evidence) for evidence in cell.measurements),
        )
        for cell in cells
    )
    found = list(_located(cells, findings))
    worst = max((finding.verdict for _, finding in found), key=lambda v: v.severity, default=Verdict.PASS)
    judged = policy.rules.max_drop_db is not None or any(
        evidence.floor_db is not None
        or (policy.rules.coverage_min is not None and evidence.metric == "coverage")
        or evidence.metric == WRONG_CASES
        for cell in cells
        for evidence in cell.measurements
    )
    measured = any(cell.measurements for cell in cells)
    if not (judged and measured) and worst.severity < Verdict.NO_BASELINE.severity:
        message = "nothing was judged: no measurement has a floor_db or a max_drop_db to hold it against"
        return Judgement(verdict=Verdict.NO_BASELINE, message=message, cells=findings)
    return Judgement(verdict=worst, message=_sentence(worst, found), cells=findings)


def judge_measurement(policy: Policy, evidence: Evidence) -> Finding | None:
    """The worst of what the rules say, or None where no rule applies.

    >>> judge_measurement(Policy(), Evidence(figure=Figure.finite(29.9), floor_db=30)).verdict.value
    'regressed'
    """
    if evidence.metric == WRONG_CASES:
        return judge_conformance(CONSEQUENCES[policy.on.conformance], evidence.conformance)
    if evidence.metric != SQNR:
        return _coverage(policy, evidence)
    findings = [
        finding
        for finding in (_outcome(policy, evidence), _floor(evidence), _drop(policy, evidence))
        if finding is not None
    ]
    if not findings:
        return None
    worst = max(findings, key=lambda finding: finding.verdict.severity)
    drops = [finding.drop_db for finding in findings if finding.drop_db is not None]
    return worst.replace(
        floor_db=evidence.floor_db, baseline=evidence.baseline, drop_db=drops[0] if drops else None
    )


def judge_cell(policy: Policy, status: CellStatus, reason: str | None) -> Finding | None:
    """What a cell that gave no measurement means; None for one that is done."""
    if status is CellStatus.DONE:
        return None
    if status is CellStatus.CANCELLED:
        return Finding(verdict=Verdict.ERROR, rule="cancelled", message=f"cancelled: {reason}")
    rule = "unsupported" if status is CellStatus.UNSUPPORTED else "worker_error"
    verdict = CONSEQUENCES[getattr(policy.on, rule)]
    message = f"{status.value}: {reason}" if reason else status.value
    return Finding(verdict=verdict, rule=f"on.{rule}", message=message)


def floor_db(scheme: Scheme, edge: str, place: str, metric: str) -> float | None:
    """The floor under a measurement: floors are about the whole output, in dB."""
    if place != OUTPUT or metric != SQNR:
        return None
    return next((db for e, db in scheme.floor_db.items() if e == edge), None)


def _located(
    cells: Sequence[CellEvidence], findings: Sequence[CellFindings]
) -> Iterator[tuple[str, Finding]]:
    """Each finding, and what it is about."""
    for cell, of_cell in zip(cells, findings, strict=True):
        if of_cell.cell is not None:
            yield cell.label, of_cell.cell
        for evidence, finding in zip(cell.measurements, of_cell.measurements, strict=True):
            if finding is not None:
                place = "" if evidence.place == OUTPUT else f" · {evidence.place}"
                yield f"{cell.label} · {evidence.edge}{place}", finding


def _sentence(worst: Verdict, found: Sequence[tuple[str, Finding]]) -> str:
    """How many findings of which kind, and the first of the worst in words."""
    counts = Counter(finding.verdict for _, finding in found)
    tally = ", ".join(
        f"{counts[verdict]} {verdict.value}" for verdict in reversed(Verdict) if counts[verdict]
    )
    if worst is Verdict.PASS:
        return tally
    where, first = next((where, finding) for where, finding in found if finding.verdict is worst)
    return f"{tally}; {where}: {first.message}"


def _outcome(policy: Policy, evidence: Evidence) -> Finding | None:
    """Kinds that mean something under every policy."""
    kind = evidence.figure.kind
    if kind is FigureKind.NONFINITE:
        verdict = CONSEQUENCES[policy.on.nonfinite]
        return Finding(
            verdict=verdict, rule="on.nonfinite", message="the output has NaN or infinite elements"
        )
    if kind is FigureKind.MISMATCH:
        return Finding(
            verdict=Verdict.REGRESSED,
            rule="mismatch",
            message="the outputs differ in structure, shape or dtype",
        )
    if evidence.zero_output and kind is not FigureKind.NOT_APPLICABLE:
        return Finding(verdict=Verdict.WARN, rule="zero_output", message="the output is zero throughout")
    return None


def _floor(evidence: Evidence) -> Finding | None:
    floor_db, figure = evidence.floor_db, evidence.figure
    if floor_db is None:
        return None
    if figure.kind is FigureKind.EXACT:
        return Finding(verdict=Verdict.PASS, rule="floor_db", message="exact")
    if figure.kind is FigureKind.NOT_APPLICABLE:
        return Finding(
            verdict=Verdict.ERROR,
            rule="floor_db",
            message="a floor in dB does not apply: no element of the output is a real number",
        )
    if figure.value is None:
        return Finding(
            verdict=Verdict.REGRESSED,
            rule="floor_db",
            message=f"{figure} instead of {floor_db:.3f} dB or more",
        )
    return _above_floor(evidence, floor_db, figure.value)


def _above_floor(evidence: Evidence, floor_db: float, value: float) -> Finding:
    if value >= floor_db:
        message = f"{evidence.figure} dB is {value - floor_db:.3f} dB above the floor of {floor_db:.3f} dB"
        return Finding(verdict=Verdict.PASS, rule="floor_db", message=message)
    if _is_own_floor(evidence):
        own = evidence.own_floor
        message = f"float32 itself ends at {own} dB here: a floor of {floor_db:.3f} dB cannot be judged"
        return Finding(verdict=Verdict.ERROR, rule="own_floor", message=message)
    message = f"{evidence.figure} dB is {floor_db - value:.3f} dB below the floor of {floor_db:.3f} dB"
    return Finding(verdict=Verdict.REGRESSED, rule="floor_db", message=message)


def _drop(policy: Policy, evidence: Evidence) -> Finding | None:
    max_drop_db = policy.rules.max_drop_db
    if max_drop_db is None or evidence.figure.kind is FigureKind.NOT_APPLICABLE:
        return None
    baseline, figure = evidence.baseline, evidence.figure
    if baseline is None:
        verdict = (
            Verdict.NO_BASELINE if policy.on.no_baseline == "fail" else CONSEQUENCES[policy.on.no_baseline]
        )
        message = "no accepted result of this series on the branch to compare with"
        return Finding(verdict=verdict, rule="on.no_baseline", message=message)
    if figure.kind is FigureKind.EXACT:
        return Finding(verdict=Verdict.PASS, rule="max_drop_db", message="exact")
    if figure.value is None:
        return Finding(
            verdict=Verdict.REGRESSED,
            rule="max_drop_db",
            message=f"{figure}; the baseline was {baseline.figure}",
        )
    return _against(baseline.figure, evidence, figure.value, max_drop_db)


def _against(baseline: Figure, evidence: Evidence, value: float, max_drop_db: float) -> Finding:
    figure = evidence.figure
    if _is_own_floor(evidence):
        message = f"{figure} dB is as good as float32 itself ({evidence.own_floor} dB): no drop is judged"
        return Finding(verdict=Verdict.PASS, rule="own_floor", message=message)
    if baseline.value is None:
        message = f"{figure} dB; the baseline was {baseline}"
        return Finding(verdict=Verdict.REGRESSED, rule="max_drop_db", message=message)
    drop_db = baseline.value - value
    verdict = Verdict.REGRESSED if drop_db > max_drop_db else Verdict.PASS
    message = f"{figure} dB against {baseline} dB: a drop of {drop_db:.3f} dB, {max_drop_db:.3f} allowed"
    return Finding(verdict=verdict, rule="max_drop_db", message=message, drop_db=drop_db)


def _is_own_floor(evidence: Evidence) -> bool:
    """Whether at least half of the noise is float32's own: such a figure moves with anything."""
    own, figure = evidence.own_floor, evidence.figure
    if own is None or own.value is None or figure.value is None:
        return False
    return figure.value > own.value - HALF_OF_THE_NOISE_DB


def _coverage(policy: Policy, evidence: Evidence) -> Finding | None:
    least, figure = policy.rules.coverage_min, evidence.figure
    if least is None or evidence.metric != "coverage":
        return None
    if figure.value is None:
        return Finding(verdict=Verdict.ERROR, rule="coverage_min", message=f"the coverage is {figure}")
    verdict = Verdict.PASS if figure.value >= least else Verdict.REGRESSED
    message = f"{figure.value:.3f} of what could be quantized is; {least:.3f} is the least allowed"
    return Finding(verdict=verdict, rule="coverage_min", message=message)
