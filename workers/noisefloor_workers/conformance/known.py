"""Deviations that are known and accepted: the suite gates new ones only. No torch here."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, Field, TypeAdapter

from noisefloor.contract.base import LongText, Text, Value
from noisefloor.contract.conformance import Conformance, Values, Verdict
from noisefloor.contract.lane import Engine, Isa

OURS = Path(__file__).with_name("known.yaml")


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"no version specifier, as '>=2.13,<2.14': {error}") from None
    return text


def _fault(verdict: Verdict) -> Verdict:
    if not verdict.is_fault:
        raise ValueError("no fault; accepted: wrong, nondeterministic, crashes")
    return verdict


class KnownIssue(Value):
    """A deviation that is accepted, wherever all that is said here is so.

    `op` is a glob; no `isa` is each, no `values` are all. Processors that have a flag of `unless_cpu`,
    as it is in /proc/cpuinfo, do not have the fault.
    """

    op: Text
    engine: Annotated[tuple[Engine, ...], Field(min_length=1)]
    isa: tuple[Isa, ...] = ()
    torch: Annotated[Text, AfterValidator(_specifier)]
    verdict: Annotated[tuple[Annotated[Verdict, AfterValidator(_fault)], ...], Field(min_length=1)] = (
        Verdict.WRONG,
    )
    values: tuple[Values, ...] = ()
    unless_cpu: tuple[Text, ...] = ()
    reason: Annotated[LongText, Field(min_length=1)]

    def concerns(self, one: Conformance) -> bool:
        """Whether this operator, engine and cap are meant."""
        here = one.engine in self.engine and (not self.isa or one.isa in self.isa)
        return here and fnmatchcase(one.op, self.op)

    def explains(self, one: Conformance) -> tuple[Values, ...]:
        """The values in which this is the fault that was found."""
        if one.verdict not in self.verdict:
            return ()
        return tuple(value for value in one.values if not self.values or value in self.values)


KNOWN: TypeAdapter[list[KnownIssue]] = TypeAdapter(list[KnownIssue])


def applicable(known: Iterable[KnownIssue], *, torch: str, cpu_flags: frozenset[str]) -> list[KnownIssue]:
    """Those that are about this version of torch, and this processor."""
    return [
        one
        for one in known
        if SpecifierSet(one.torch).contains(torch, prereleases=True) and not cpu_flags & set(one.unless_cpu)
    ]


def marked(found: Sequence[Conformance], known: Sequence[KnownIssue]) -> list[Conformance]:
    """What was found, with what was known of it.

    A fault is known where issues explain all the values it is in. An issue has gone away where what it
    concerns was run, and nowhere is that fault.
    """
    gone = _gone(found, known)
    return [_marked(one, known, gone) for one in found]


def matching_nothing(known: Iterable[KnownIssue], operators: Iterable[str]) -> list[str]:
    """The globs that are no operator's: most likely they are misspelt."""
    names = list(operators)
    return [one.op for one in known if not any(fnmatchcase(name, one.op) for name in names)]


def _gone(found: Sequence[Conformance], known: Sequence[KnownIssue]) -> list[KnownIssue]:
    gone = []
    for issue in known:
        concerned = [one for one in found if issue.concerns(one) and one.verdict is not Verdict.UNSUPPORTED]
        if concerned and not any(issue.explains(one) for one in concerned):
            gone.append(issue)
    return gone


def _marked(one: Conformance, known: Sequence[KnownIssue], gone: Sequence[KnownIssue]) -> Conformance:
    if one.verdict is Verdict.UNSUPPORTED:
        return one
    away = dict.fromkeys(issue.reason for issue in gone if issue.concerns(one))
    one = one.replace(gone="; ".join(away) or None)
    said = {issue.reason: issue.explains(one) for issue in known if issue.concerns(one)}
    explained = {value for values in said.values() for value in values}
    if not explained.issuperset(one.values):
        return one
    return one.replace(known="; ".join(reason for reason, values in said.items() if values) or None)
