"""Creep: many losses, each within what is allowed, that add up since a release."""

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.policy import LAST_RELEASE, PINNED, Creep, Policy
from noisefloor.contract.verdict import Finding
from noisefloor.gate.evidence import Evidence
from noisefloor.gate.rules import against, without_baseline


def creep(policy: Policy, rule: Creep | None, evidence: Evidence) -> Finding | None:
    """`creep_db` against the anchor. An accepted loss after the release is an anchor of its own."""
    anchor = evidence.anchor
    if rule is None:
        return None
    if anchor is None or anchor.figure.kind is FigureKind.NOT_APPLICABLE:
        if evidence.figure.kind is FigureKind.NOT_APPLICABLE:
            return None
        return without_baseline(policy, f"creep has nothing to start from: {_unfound(rule)}")
    return against(evidence, anchor, rule.max, rule="creep_db", what="the release")


def _unfound(rule: Creep) -> str:
    if rule.since == LAST_RELEASE:
        return "no earlier commit with a git.tag has an accepted result of this series"
    if rule.since == PINNED:
        return "no pin names this series"
    return f"no earlier commit with the git.tag {rule.since!r} has an accepted result of this series"
