"""Acknowledging: which regressions an acceptance or a waiver lets through. A day is a value, not a clock."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date

from noisefloor.contract.base import Value
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.match import Where
from noisefloor.contract.policy import Waiver
from noisefloor.contract.verdict import Acknowledgement, Breach, Finding, Verdict
from noisefloor.gate.evidence import Level
from noisefloor.gate.rules import ROUNDING_DB

ABSOLUTE = frozenset({"floor_db", "agree_within_db", "coverage_min"})  # held against no earlier result


class Commit(Value):
    """What is known of the commit that a job measured, and when it was made."""

    job_id: str
    sha: str | None = None
    branch: str | None = None
    ancestors: tuple[str, ...] = ()
    at: float  # epoch seconds of the commit, or of the post


def concerns(accepted: Commit, job: Commit, *, merged_into: str | None) -> bool:
    """Whether an acceptance of one commit holds for a job.

    It holds for the commit itself and what descends from it; and, from then on, for its branch, where a
    rebase gives it another sha, and for the branch that it is merged into, where a squash does. No other
    branch may lose what was accepted there, and no commit before it: of one time, its ancestors tell.
    """
    if job.job_id == accepted.job_id:
        return True
    if accepted.sha is not None and accepted.sha in {job.sha, *job.ancestors}:
        return True
    branches = {accepted.branch, merged_into} - {None}
    is_later = job.at >= accepted.at and job.sha not in accepted.ancestors
    return is_later and job.branch in branches


def by_levels(finding: Finding, figure: Figure | None, levels: Sequence[Level], today: date) -> Finding:
    """The finding under what somebody accepted: a figure no worse than that, or a series that is missing."""
    for level in levels:
        finding = _under(finding, level.by, today, lambda b, level=level: _covers(b, figure, level))  # type: ignore[misc]
    return finding


def by_waivers(finding: Finding, where: Where, waivers: Sequence[Waiver], today: date) -> Finding:
    """The finding under the policy's waivers: they cover whatever regressed where they match."""
    for waiver in waivers:
        if waiver.match.fits(where):
            by = Acknowledgement(kind="waiver", reason=waiver.reason, by=waiver.by, until=waiver.until)
            finding = _under(finding, by, today, lambda b: b.verdict is Verdict.REGRESSED)
    return finding


def reopened(finding: Finding) -> Finding:
    """The finding as it was before a waiver covered it."""
    if finding.acknowledged is None or finding.acknowledged.kind != "waiver":
        return finding
    breaches = [
        b.replace(verdict=Verdict.REGRESSED) if b.verdict is Verdict.ACKNOWLEDGED else b
        for b in _breaches(finding)
    ]
    return _led(finding, breaches).replace(acknowledged=None)


def _under(finding: Finding, by: Acknowledgement, today: date, covers: Callable[[Breach], bool]) -> Finding:
    """The finding with each breach acknowledged that `covers` says so of; the gravest of the rest leads."""
    breaches = _breaches(finding)
    if not any(covers(breach) for breach in breaches):
        return finding
    if by.until is not None and by.until < today:
        who = f" of {by.by}" if by.by else ""
        return finding.replace(message=f"{finding.message}; the {by.kind}{who} ended on {by.until}")
    after = [b.replace(verdict=Verdict.ACKNOWLEDGED) if covers(b) else b for b in breaches]
    return _led(finding, after).replace(acknowledged=by)


def _breaches(finding: Finding) -> list[Breach]:
    return [Breach(**{name: getattr(finding, name) for name in Breach.model_fields}), *finding.also]


def _led(finding: Finding, breaches: Sequence[Breach]) -> Finding:
    """The finding with the gravest breach in front."""
    leading = max(breaches, key=lambda breach: breach.verdict.severity)
    rest = tuple(breach for breach in breaches if breach is not leading)
    return finding.replace(**dict(leading), also=rest)


def limits(finding: Finding) -> dict[str, float] | None:
    """What the broken rules asked that are held against no earlier result: nobody accepts more than that.

    None where an older version judged, which did not keep it.

    >>> limits(Finding(verdict=Verdict.REGRESSED, rule="floor_db", message="", limit=30.0))
    {'floor_db': 30.0}
    """
    verdicts = (Verdict.REGRESSED, Verdict.ACKNOWLEDGED)
    broken = [b for b in _breaches(finding) if b.rule in ABSOLUTE and b.verdict in verdicts]
    if any(b.limit is None and b.tolerance_db is not None for b in broken):
        return None
    return {b.rule: b.limit for b in broken if b.limit is not None}


def _was_asked(breach: Breach, accepted: Mapping[str, float] | None) -> bool:
    """Whether a rule asks no more than it did when somebody accepted that it was broken, if that is known."""
    if accepted is None:
        return True
    limit = accepted.get(breach.rule)
    if limit is None or breach.limit is None:
        return False
    return breach.limit >= limit if breach.rule == "agree_within_db" else breach.limit <= limit


def _covers(breach: Breach, figure: Figure | None, level: Level) -> bool:
    improved = breach.rule == "on_improvement"
    if breach.verdict is not Verdict.REGRESSED and not improved:
        return False
    if not (_was_asked(breach, level.limits) if breach.rule in ABSOLUTE else not level.spent):
        return False
    if level.figure is None:
        return breach.rule == "on.missing_series"
    if breach.tolerance_db is None or figure is None:
        return False
    if figure.kind is FigureKind.EXACT or figure.value is None or level.figure.value is None:
        return figure.kind is FigureKind.EXACT and level.figure == figure
    lost_db = level.figure.value - figure.value
    return (abs(lost_db) if improved else lost_db) <= breach.tolerance_db + ROUNDING_DB
