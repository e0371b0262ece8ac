"""The judge: what a policy says of measurements, of cells that gave none, and of a job as a whole."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date

from noisefloor.contract.base import Value
from noisefloor.contract.job import CellStatus
from noisefloor.contract.match import Where
from noisefloor.contract.measurement import OUTPUT, SQNR, WRONG_CASES, quantity
from noisefloor.contract.policy import Policy
from noisefloor.contract.verdict import Breach, Compared, Finding, Verdict
from noisefloor.gate import consequence, rules
from noisefloor.gate.acknowledge import by_levels, by_waivers
from noisefloor.gate.agreement import Member, Peers
from noisefloor.gate.conformance import judge_conformance
from noisefloor.gate.creep import creep
from noisefloor.gate.evidence import AbsentSeries, CellEvidence, Evidence

# What these say holds nothing against a rule: a job of which nothing else is said was not judged.
NO_JUDGEMENT = frozenset(
    {"on.nonfinite", "mismatch", "zero_output", "no_peers", "on.unknown_files", "other_files"}
)


class CellFindings(Value):
    """What is found of a cell: of the cell itself if it gave no measurement, and of each measurement."""

    cell: Finding | None
    measurements: tuple[Finding | None, ...]


class Judgement(Value):
    """The verdict of a job, a sentence, and the findings of each cell and each missing series."""

    verdict: Verdict
    message: str
    cells: tuple[CellFindings, ...]
    absent: tuple[Finding, ...] = ()
    judged: bool
    compared: Compared = Compared()


class Located(Value):
    """A finding, and what it is about in words."""

    label: str
    finding: Finding


def judge(
    policy: Policy, cells: Sequence[CellEvidence], *, today: date, absent: Sequence[AbsentSeries] = ()
) -> Judgement:
    """Apply a policy to a job's results on a day, which decides what waivers and acceptances still count.

    Where no rule applies to any measurement there is nothing that could pass: `no_baseline`.
    """
    peers = Peers(
        [
            Member(cell=cell, evidence=evidence)
            for cell in cells
            for evidence in cell.measurements
            if policy.match.fits(cell.at(evidence))
        ]
    )
    findings = []
    judged = False
    for cell in cells:
        of_measurements: list[Finding | None] = []
        for evidence in cell.measurements:
            found = _findings(policy, cell, evidence, peers)
            judged = judged or any(f.rule not in NO_JUDGEMENT for f in found)
            of_measurements.append(_gravest(policy, cell.at(evidence), evidence, found, today))
        of_cell = _judge_cell(policy, cell) if _in_scope(policy, cell) else None
        if of_cell is not None:
            of_cell = by_waivers(of_cell, cell.where, policy.waivers, today)
        findings.append(CellFindings(cell=of_cell, measurements=tuple(of_measurements)))
    missing = tuple(judge_absent(policy, series, today) for series in absent)
    verdict, message = conclude(policy, located(cells, findings, absent, missing), judged=judged)
    return Judgement(
        verdict=verdict,
        message=message,
        cells=tuple(findings),
        absent=missing,
        judged=judged,
        compared=_compared(cells, findings, missing),
    )


def judge_measurement(policy: Policy, evidence: Evidence, *, today: date) -> Finding | None:
    """The worst of what the rules say of one measurement alone, or None where no rule applies.

    >>> from noisefloor.contract.figure import Figure
    >>> low = Evidence(figure=Figure.finite(29.9), floor_db=30)
    >>> judge_measurement(Policy(), low, today=date(2026, 1, 1)).verdict.value
    'regressed'
    """
    cell = CellEvidence(label="", status=CellStatus.DONE, measurements=(evidence,))
    return judge(policy, [cell], today=today).cells[0].measurements[0]


def judge_cell(policy: Policy, status: CellStatus, reason: str | None) -> Finding | None:
    """What a cell that gave no measurement means; None for one that is done."""
    if status is CellStatus.DONE:
        return None
    if status is CellStatus.CANCELLED:
        return Finding(verdict=Verdict.ERROR, rule="cancelled", message=f"cancelled: {reason}")
    outcome = "unsupported" if status is CellStatus.UNSUPPORTED else "worker_error"
    verdict = consequence.led_to(policy.on, outcome) or Verdict.ERROR
    message = f"{status.value}: {reason}" if reason else status.value
    return Finding(verdict=verdict, rule=f"on.{outcome}", message=message)


def _judge_cell(policy: Policy, cell: CellEvidence) -> Finding | None:
    """Of a cell that was refused for its files, that outweighs how it ended."""
    found = judge_cell(policy, cell.status, cell.reason)
    certain = cell.doubt is not None and cell.doubt.certain
    return rules.files(policy, cell.doubt) if certain and found is not None else found


def judge_absent(policy: Policy, series: AbsentSeries, today: date) -> Finding:
    """What a series means that the baseline had and the job has not.

    Where a cell could not be evaluated nothing is known to be lost: that is an error, not a regression.
    """
    verdict = consequence.led_to(policy.on, "missing_series") or Verdict.ERROR
    evaluated = series.status in {None, CellStatus.DONE, CellStatus.UNSUPPORTED}
    if not evaluated and verdict is Verdict.REGRESSED:
        verdict = Verdict.ERROR
    because = "the job does not measure it" if series.status is None else f"the cell is {series.status.value}"
    before = (
        quantity(series.baseline.figure, series.metric)
        if series.baseline is not None
        else "a result that was refused"
    )
    message = f"missing: the baseline had {before}, {because}"
    finding = Finding(verdict=verdict, rule="on.missing_series", message=message, baseline=series.baseline)
    finding = by_levels(finding, None, series.levels, today)
    return by_waivers(finding, series.where, policy.waivers, today)


def conclude(policy: Policy, found: Sequence[Located], *, judged: bool) -> tuple[Verdict, str]:
    """The verdict over all findings, and how many there are of which kind, with the first of the worst.

    An informational policy says what it found and blocks nothing.
    """
    worst = max((one.finding.verdict for one in found), key=lambda v: v.severity, default=Verdict.PASS)
    message = _sentence(worst, found)
    if not judged and worst.severity < Verdict.NO_BASELINE.severity:
        worst = Verdict.NO_BASELINE
        message = "nothing was judged: no measurement that the policy matches has a rule to hold it against"
    if policy.mode == "informational" and worst.severity > Verdict.WARN.severity:
        return Verdict.WARN, f"informational, would be {worst.value}: {message}"
    return worst, message


def located(
    cells: Sequence[CellEvidence],
    findings: Sequence[CellFindings],
    absent: Sequence[AbsentSeries] = (),
    missing: Sequence[Finding] = (),
) -> list[Located]:
    """Each finding, and what it is about."""
    return [*_of_cells(cells, findings)] + [
        Located(label=series.label, finding=finding) for series, finding in zip(absent, missing, strict=True)
    ]


def measured_label(cell_label: str, edge: str, place: str) -> str:
    """A measurement in words."""
    return f"{cell_label} · {edge}{'' if place == OUTPUT else f' · {place}'}"


def _of_cells(cells: Sequence[CellEvidence], findings: Sequence[CellFindings]) -> Iterator[Located]:
    for cell, of_cell in zip(cells, findings, strict=True):
        if of_cell.cell is not None:
            yield Located(label=cell.label, finding=of_cell.cell)
        for evidence, finding in zip(cell.measurements, of_cell.measurements, strict=True):
            if finding is not None:
                label = measured_label(cell.label, evidence.edge, evidence.place)
                yield Located(label=label, finding=finding)


def _in_scope(policy: Policy, cell: CellEvidence) -> bool:
    edges = cell.edges or (None,)
    return any(policy.match.fits(cell.where.model_copy(update={"edge": edge})) for edge in edges)


def _findings(policy: Policy, cell: CellEvidence, evidence: Evidence, peers: Peers) -> list[Finding]:
    """What each rule says of a measurement in the policy's scope."""
    where = cell.at(evidence)
    if not policy.match.fits(where):
        return []
    of = policy.rules_for(where)
    if evidence.metric == WRONG_CASES:
        of_fault = consequence.led_to(policy.on, "conformance") or Verdict.ERROR
        return [judge_conformance(of_fault, evidence.conformance)]
    if evidence.metric != SQNR:
        covered = rules.coverage(of, evidence)
        found = [covered, rules.files(policy, cell.doubt) if covered is not None else None]
    else:
        found = [
            rules.outcome(policy, evidence),
            rules.floor(of, evidence),
            rules.drop(policy, of, evidence),
            creep(policy, of.creep_db, evidence),
            peers.agreement(of.agree_within_db, Member(cell=cell, evidence=evidence)),
            rules.environment(policy, evidence),
            rules.files(policy, cell.doubt),
        ]
    return [finding for finding in found if finding is not None]


def _gravest(
    policy: Policy, where: Where, evidence: Evidence, found: Sequence[Finding], today: date
) -> Finding | None:
    """The gravest finding, with the others that are no pass, under acceptances and then waivers."""
    if not found:
        return None
    worst = max(found, key=lambda finding: finding.verdict.severity)
    also = tuple(
        Breach(**{name: getattr(finding, name) for name in Breach.model_fields})
        for finding in found
        if finding is not worst and finding.verdict is not Verdict.PASS
    )
    of = policy.rules_for(where)
    loss = {f.rule: f.drop_db for f in found if f.drop_db is not None}
    sqnr = evidence.metric == SQNR
    whole = worst.replace(
        also=also,
        floor_db=rules.floor_under(of, evidence) if sqnr else None,
        drop_db=next((db for rule, db in loss.items() if rule != "creep_db"), None),
        creep_db=loss.get("creep_db"),
        baseline=evidence.baseline,
        anchor=evidence.anchor if of.creep_db is not None else None,
    )
    return by_waivers(by_levels(whole, evidence.figure, evidence.levels, today), where, policy.waivers, today)


def _compared(
    cells: Sequence[CellEvidence], findings: Sequence[CellFindings], missing: Sequence[Finding]
) -> Compared:
    found = [
        evidence.baseline is not None
        for cell, of_cell in zip(cells, findings, strict=True)
        for evidence, finding in zip(cell.measurements, of_cell.measurements, strict=True)
        if finding is not None and evidence.metric == SQNR
    ]
    common = sum(found)
    return Compared(common=common, missing=len(missing), without_baseline=len(found) - common)


def _sentence(worst: Verdict, found: Sequence[Located]) -> str:
    counts = Counter(one.finding.verdict for one in found)
    tally = ", ".join(
        f"{counts[verdict]} {verdict.value}" for verdict in reversed(Verdict) if counts[verdict]
    )
    if worst is Verdict.PASS:
        return tally
    first = next(one for one in found if one.finding.verdict is worst)
    return f"{tally}; {first.label}: {first.finding.message}"
