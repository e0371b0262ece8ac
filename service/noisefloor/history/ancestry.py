"""The order of commits, from the ancestors that clients sent with their jobs."""

import heapq
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What was measured when: `ancestors` are first-parent shas, the nearest first."""

    sha: str | None
    at: datetime
    ancestors: tuple[str, ...] = ()


def ordered(commits: Sequence[Commit]) -> list[int]:
    """Indices of the commits, each after its ancestors, and by time where ancestry says nothing.

    Kahn's topological sort with a heap on time. The same sha stands together, in the order given; what has no
    sha stands by its time. Ancestors that contradict each other stand last, by time. O(n·a) for a ancestors.

    >>> from datetime import UTC
    >>> at = lambda hour: datetime(2026, 1, 1, hour, tzinfo=UTC)
    >>> child = Commit(sha="b", at=at(1), ancestors=("a",))  # its clock is behind
    >>> ordered([child, Commit(sha="a", at=at(2)), Commit(sha="c", at=at(3))])
    [1, 0, 2]
    """
    members: dict[Hashable, list[int]] = {}
    for index, commit in enumerate(commits):
        members.setdefault(commit.sha if commit.sha is not None else index, []).append(index)
    rank = {node: (min(commits[i].at for i in found), found[0]) for node, found in members.items()}
    children: dict[Hashable, set[Hashable]] = {node: set() for node in members}
    for commit in commits:
        known = [sha for sha in (commit.sha, *commit.ancestors) if sha in members]
        if known and known[0] == commit.sha:
            for child, parent in pairwise(known):
                children[parent].add(child)
    return [index for node in _sorted(children, rank) for index in members[node]]


def _sorted(
    children: dict[Hashable, set[Hashable]], rank: dict[Hashable, tuple[datetime, int]]
) -> Iterator[Hashable]:
    waiting_for = dict.fromkeys(children, 0)
    for node, found in children.items():
        for child in found - {node}:
            waiting_for[child] += 1
    free = [(rank[node], node) for node, number in waiting_for.items() if not number]
    heapq.heapify(free)
    by_time = iter(sorted(children, key=rank.__getitem__))
    done: set[Hashable] = set()
    while len(done) < len(children):
        # A circle has no start: its earliest commit is taken.
        node = heapq.heappop(free)[1] if free else next(one for one in by_time if one not in done)
        if node in done:
            continue
        done.add(node)
        yield node
        for child in children[node] - {node}:
            waiting_for[child] -= 1
            if not waiting_for[child]:
                heapq.heappush(free, (rank[child], child))
