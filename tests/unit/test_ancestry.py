from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from noisefloor.history.ancestry import Commit, ordered

START = datetime(2026, 11, 1, tzinfo=UTC)


def commit(sha: str | None, hour: int, *ancestors: str) -> Commit:
    return Commit(sha=sha, at=START + timedelta(hours=hour), ancestors=ancestors)


def names(*commits: Commit) -> str:
    return "".join(commits[index].sha or "-" for index in ordered(commits))


def test_a_commit_stands_after_its_parent_whatever_the_clocks_say() -> None:
    assert names(commit("b", 1, "a"), commit("a", 5)) == "ab"


def test_ancestors_that_were_not_measured_are_passed_over() -> None:
    assert names(commit("d", 1, "c", "b", "a"), commit("b", 5), commit("a", 6)) == "abd"


def test_without_ancestry_time_decides() -> None:
    assert names(commit("a", 3), commit(None, 2), commit("c", 1)) == "c-a"


def test_a_commit_that_was_measured_twice_stands_together() -> None:
    assert names(commit("a", 1), commit("b", 2), commit("a", 3)) == "aab"


def test_ancestors_that_contradict_each_other_stand_last_by_time() -> None:
    assert names(commit("b", 2, "a"), commit("a", 1, "b"), commit("c", 3, "c")) == "cab"


@given(st.permutations(range(12)), st.lists(st.integers(0, 9), min_size=12, max_size=12), st.integers(0, 12))
def test_every_commit_stands_once_and_after_its_ancestors(
    arrival: list[int], hours: list[int], known: int
) -> None:
    shas = [f"{number:x}" for number in range(12)]
    commits = [commit(shas[n], hours[n], *reversed(shas[max(0, n - known) : n])) for n in arrival]
    order = ordered(commits)
    assert sorted(order) == list(range(12))
    place = {commits[index].sha: position for position, index in enumerate(order)}
    assert all(place[parent] < place[one.sha] for one in commits for parent in one.ancestors)
