"""Where a baseline is looked for, and which of what was found is taken. Pure.

A commit is known by what clients sent with jobs: its sha, its branch, and its first parents. The service has
no repository, so the history of a branch is what its jobs and their ancestors say.
"""

from collections.abc import Collection, Mapping, Sequence

from pydantic import Field

from noisefloor.contract.base import Value
from noisefloor.contract.job import Git
from noisefloor.contract.policy import BaselineRule, Source
from noisefloor.contract.verdict import Baseline

SHORT_SHA = 10


class Search(Value):
    """Commits to look at, by distance from the head; or in words why there is none to look at."""

    source: Source
    distances: dict[str, int] = Field(default_factory=dict)
    nowhere: str | None = None
    before: str = ""  # what no result was found at, in words


class Choice(Value):
    """The baseline of one series, or why it has none."""

    baseline: Baseline | None = None
    reason: str | None = None


def back(commits: int) -> str:
    """A distance along first parents in words.

    >>> back(1), back(3)
    ('1 commit back', '3 commits back')
    """
    return f"{_commits(commits)} back"


def line(git: Git) -> tuple[str, ...]:
    """The first parents of a commit, nearest first. A commit is not its own baseline."""
    return tuple(sha for sha in dict.fromkeys(git.ancestors) if sha != git.sha)


def merge_base(ancestors: Sequence[str], history: Collection[str]) -> int | None:
    """How many commits back the head left the other branch's history, along first parents; None if unknown.

    >>> merge_base(["t1", "m2", "m1"], {"m1", "m2", "m3"})
    2
    """
    return next((back for back, sha in enumerate(ancestors, start=1) if sha in history), None)


def search(source: Source, rule: BaselineRule, git: Git, history: Collection[str]) -> Search:
    """Which commits a source by commits looks at. `history` is of the rule's branch."""
    ancestors = line(git)
    if git.sha is None or not ancestors:
        return Search(source=source, nowhere=_no_ancestors(git))
    first = 1
    if "merge_base" in {source, rule.source}:
        base = merge_base(ancestors, history)
        if base is None:
            return Search(
                source=source,
                nowhere=f"no merge base: of {len(ancestors)} ancestors sent none is known on {rule.branch}",
            )
        first = base
    last = first if source == "merge_base" else len(ancestors)
    within = min(last, rule.max_age_commits or last)
    distances = {ancestors[back - 1]: back for back in range(first, within + 1)}
    if not distances:
        said = f"the merge base {ancestors[first - 1][:SHORT_SHA]} is {back(first)}"
        return Search(source=source, nowhere=f"{said}, {rule.max_age_commits} allowed")
    nearest = f"{ancestors[first - 1][:SHORT_SHA]}, {back(first)}"
    if source == "merge_base":
        where = f"the merge base with {rule.branch}, {nearest}"
    elif len(distances) == 1:
        where = f"the ancestor {nearest}"
    else:
        where = f"any of the {len(distances)} ancestors from {back(first)}"
    return Search(source=source, distances=distances, before=where)


def choose(
    rule: BaselineRule,
    found: Mapping[Source, Baseline],
    reasons: Mapping[Source, str],
    *,
    environment: str | None,
) -> Choice:
    """The baseline of one series: the source's, or the fallback's, and how it came to be that one."""
    sources = [rule.source] if rule.fallback is None else [rule.source, rule.fallback]
    refused: list[str] = []
    for source in sources:
        baseline = found.get(source)
        too_old = _too_old(rule, baseline) if baseline is not None else None
        if baseline is None or too_old is not None:
            refused.append(too_old or reasons[source])
            continue
        known = environment is not None and baseline.environment is not None
        return Choice(
            baseline=baseline.replace(
                source=source,
                fell_back="; ".join(refused) or None,
                environment_changed=known and environment != baseline.environment,
            )
        )
    return Choice(reason="; ".join(dict.fromkeys(refused)))


def _too_old(rule: BaselineRule, baseline: Baseline) -> str | None:
    """Sources by commits look no further than is allowed; of a previous result the distance must be known."""
    if rule.max_age_commits is None or baseline.source != "previous":
        return None
    if baseline.distance is None:
        return f"the distance to the previous result is not known, {_commits(rule.max_age_commits)} allowed"
    if baseline.distance > rule.max_age_commits:
        return f"the previous result is {back(baseline.distance)}, {rule.max_age_commits} allowed"
    return None


def _no_ancestors(git: Git) -> str:
    if git.sha is None:
        return "the job names no commit (git.sha)"
    return (
        "no ancestors were sent (git.ancestors): either this is the first commit, and the baseline of what "
        "follows, or its history was left out"
    )


def _commits(number: int) -> str:
    return f"{number} commit{'' if number == 1 else 's'}"
