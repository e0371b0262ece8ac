"""Deviations that are known and accepted: the suite gates new ones only. No torch here."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
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

    `op` are globs; no `isa` is each, no `values` are all. What runs uncapped counts as under the cap that its
    processor amounts to, as `native_level` has it.
    """

    op: Annotated[tuple[Text, ...], Field(min_length=1)]
    engine: Annotated[tuple[Engine, ...], Field(min_length=1)]
    isa: tuple[Isa, ...] = ()
    torch: Annotated[Text, AfterValidator(_specifier)]
    verdict: Annotated[tuple[Annotated[Verdict, AfterValidator(_fault)], ...], Field(min_length=1)] = (
        Verdict.WRONG,
    )
    values: tuple[Values, ...] = ()
    reason: Annotated[LongText, Field(min_length=1)]

    def concerns(self, one: Conformance, native: Isa) -> bool:
        """Whether this operator, engine and cap are meant, and it ran."""
        isa = native if one.isa == "native" else one.isa
        here = one.engine in self.engine and (not self.isa or isa in self.isa)
        return (
            here and one.verdict is not Verdict.UNSUPPORTED and any(fnmatchcase(one.op, op) for op in self.op)
        )

    def explains(self, one: Conformance) -> tuple[Values, ...]:
        """The values in which this is the fault that was found."""
        if one.verdict not in self.verdict:
            return ()
        return tuple(value for value in one.values if not self.values or value in self.values)


KNOWN: TypeAdapter[list[KnownIssue]] = TypeAdapter(list[KnownIssue])


@cache
def ours() -> tuple[KnownIssue, ...]:
    """What is known of torch's own kernels, as it comes with the suite."""
    return tuple(KNOWN.validate_python(yaml.safe_load(OURS.read_text(encoding="utf-8"))))


def marked(
    found: Sequence[Conformance], known: Iterable[KnownIssue], *, torch: str, native: Isa
) -> list[Conformance]:
    """What was found with this version of torch, with what was known of it.

    A fault is known where issues explain all the values it is in. An issue has gone away where what it
    concerns was run, and nowhere is that fault.
    """
    issues = [one for one in known if SpecifierSet(one.torch).contains(torch, prereleases=True)]
    gone = [
        issue
        for issue in issues
        if not any(issue.concerns(one, native) and issue.explains(one) for one in found)
    ]
    return [_marked(one, [issue for issue in issues if issue.concerns(one, native)], gone) for one in found]


def matching_nothing(known: Iterable[KnownIssue], operators: Iterable[str]) -> list[str]:
    """The globs that are no operator's: most likely they are misspelt."""
    names = list(operators)
    globs = [op for one in known for op in one.op]
    return [op for op in globs if not any(fnmatchcase(name, op) for name in names)]


def _marked(one: Conformance, issues: Sequence[KnownIssue], gone: Sequence[KnownIssue]) -> Conformance:
    explain = [issue for issue in issues if issue.explains(one)]
    explained = {value for issue in explain for value in issue.explains(one)}
    known = [issue.reason for issue in explain] if explained >= set(one.values) else []
    away = [issue.reason for issue in issues if issue in gone]
    return one.replace(known=_joined(known), gone=_joined(away))


def _joined(reasons: Iterable[str]) -> str | None:
    return "; ".join(dict.fromkeys(reasons)) or None
