"""Agreement: lanes of one job that should give the same, to within some decibels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from noisefloor.contract.figure import FigureKind
from noisefloor.contract.measurement import SQNR
from noisefloor.contract.policy import Agreement
from noisefloor.contract.verdict import Finding, Verdict
from noisefloor.gate.evidence import CellEvidence, Evidence
from noisefloor.gate.rules import ROUNDING_DB

AXES = ("engine", "isa")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One measurement, and its cell."""

    cell: CellEvidence
    evidence: Evidence

    def key(self, across: Iterable[str]) -> tuple[object, ...]:
        """What members of one group have in common: all but the axes they are compared across."""
        where = self.cell.where
        fixed = [getattr(where, axis) for axis in AXES if axis not in across]
        return (
            self.cell.subject_key,
            where.subject,
            where.scheme,
            where.device,
            self.evidence.edge,
            self.evidence.place,
            *fixed,
        )

    @property
    def lane(self) -> str:
        """The lane in the axes that are compared."""
        where = self.cell.where
        return " ".join(part for part in (where.engine, where.isa if where.isa != "native" else None) if part)


class Peers:
    """The measurements of a job in the policy's scope, by what they can agree with."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = [
            m
            for m in members
            if m.evidence.metric == SQNR and m.evidence.figure.kind is not FigureKind.NOT_APPLICABLE
        ]
        self._groups: dict[tuple[str, ...], Mapping[tuple[object, ...], list[Member]]] = {}

    def agreement(self, rule: Agreement | None, member: Member) -> Finding | None:
        """`agree_within_db`: how far the member is below the best of its group.

        Without another lane there is nothing to agree with, which is said and is no pass.
        """
        if rule is None or member.evidence.figure.kind is FigureKind.NOT_APPLICABLE:
            return None
        group = self._group(rule.across)[member.key(rule.across)]
        others = [m for m in group if m.cell.where != member.cell.where]
        if not others:
            message = f"no other lane across {' and '.join(rule.across)} measured this: nothing to agree with"
            return Finding(verdict=Verdict.WARN, rule="no_peers", message=message)
        return _below_best(rule, member, max(others, key=_rank))

    def _group(self, across: tuple[str, ...]) -> Mapping[tuple[object, ...], list[Member]]:
        if across not in self._groups:
            groups: dict[tuple[object, ...], list[Member]] = {}
            for member in self._members:
                groups.setdefault(member.key(across), []).append(member)
            self._groups[across] = groups
        return self._groups[across]


def _below_best(rule: Agreement, member: Member, best: Member) -> Finding:
    figure, top = member.evidence.figure, best.evidence.figure
    passed = Finding(verdict=Verdict.PASS, rule="agree_within_db", message=f"as good as {best.lane}: {top}")
    if figure.kind is FigureKind.EXACT or member.evidence.is_own_floor:
        return passed
    if figure.value is None:
        message = f"{figure}, where {best.lane} has {top}"
        return Finding(verdict=Verdict.REGRESSED, rule="agree_within_db", message=message)
    if top.kind is FigureKind.EXACT:
        message = f"{figure} dB, where {best.lane} is exact"
    elif top.value is None or top.value - figure.value <= rule.max + ROUNDING_DB:
        return passed
    else:
        message = (
            f"{figure} dB is {top.value - figure.value:.3f} dB below {best.lane} ({top} dB), "
            f"{rule.max:.3f} allowed"
        )
    return Finding(
        verdict=Verdict.REGRESSED,
        rule="agree_within_db",
        message=message,
        tolerance_db=0.0,
        limit=rule.max,
    )


def _rank(member: Member) -> float:
    """Exact is above every number, and every number above what is none."""
    figure = member.evidence.figure
    if figure.kind is FigureKind.EXACT:
        return float("inf")
    return figure.value if figure.value is not None else float("-inf")
