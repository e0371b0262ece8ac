"""Bisecting against a linear search."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisefloor.contract.bisection import Bisection
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.gate.bisect import Measured, Search, Told, candidates, next_step
from noisefloor.gate.environments import Environments

Probe = Callable[[int], bool | None]
NAMES = ("a", "b", "c", "d")


def searched(last: int, is_bad: Probe) -> tuple[tuple[int, ...], Told]:
    """What a search tells when each step is asked for as soon as it is due."""
    told: dict[int, bool | None] = {}
    while (step := next_step(last, told)) is not None:
        assert step not in told
        told[step] = is_bad(step)
    return candidates(last, told), told


@given(st.data(), st.integers(1, 200))
def test_the_first_bad_step_is_found_in_few_probes(data: st.DataObject, steps: int) -> None:
    first = data.draw(st.integers(1, steps))
    found, told = searched(steps, lambda step: step >= first)
    assert found == (first,)
    assert len(told) <= math.ceil(math.log2(steps)) + 1


@given(st.data(), st.integers(1, 30))
def test_what_cannot_be_told_leaves_no_more_than_it_must(data: st.DataObject, steps: int) -> None:
    first = data.draw(st.integers(1, steps))
    unknown = data.draw(st.frozensets(st.integers(1, steps - 1))) if steps > 1 else frozenset()
    found, _ = searched(steps, lambda step: None if step in unknown else step >= first)
    good = max((s for s in range(1, first) if s not in unknown), default=0)
    bad = min((s for s in range(first, steps) if s not in unknown), default=steps)
    assert found == tuple(range(good + 1, bad + 1))
    assert first in found


def run(*measured: float | str | None, below_db: float | None = None) -> Search:
    """A search over steps that give these figures of one output, or a reason for none."""
    search = Search(over="isa", names=NAMES[: len(measured)], below_db=below_db)
    while due := search.due():
        (step,) = due
        search = search.with_step(step, given_by(measured[step]))
    return search


def given_by(what: float | str | None) -> Measured:
    if isinstance(what, str):
        return Measured(note=what, unsupported=what.startswith("unsupported"))
    figure = Figure.finite(what) if what is not None else Figure.of(FigureKind.EXACT)
    return Measured(figures={"x86": figure})


@pytest.mark.parametrize(
    ("measured", "below_db", "first"),
    [
        ((40, 39, 21, 20), None, "c"),
        ((40, 31, 29, 20), 35, "b"),
        ((None, None, 40, 20), None, "c"),  # exact is never bad, and loses more than any number
        ((40, "not built", 21, 20), None, None),
    ],
)
def test_a_step_is_bad_below_what_is_asked_or_nearer_to_the_bad_end(
    measured: tuple[float | str | None, ...], below_db: float | None, first: str | None
) -> None:
    search = run(*measured, below_db=below_db)
    assert search.trouble() is None
    found = search.result()
    assert (found.first_bad and found.first_bad.name) == first
    assert found.found is (first is not None)
    if first is None:
        assert found.conclusion == "the first bad one is among: b, c"
        assert [step.note for step in found.steps] == [None, "not built", None, None]


@pytest.mark.parametrize(
    ("measured", "below_db", "said"),
    [
        ((20, 30, 30, 40), None, "nothing is lost from a to d"),
        ((40, 40, 40, 39.96), None, "no more than 0.05 dB is lost from a to d"),
        ((40, 30, 30, 20), 50, "a is bad already: 40.000 dB"),
        ((40, 30, 30, 20), 10, "d is not bad: 20.000 dB"),
        ((40, 30, 30, "crashed"), None, "d is an end of the search, and cannot be told: crashed"),
        (("crashed", 30, 30, 20), None, "a is an end of the search, and cannot be told: crashed"),
    ],
)
def test_where_the_ends_do_not_bound_a_loss_nothing_is_searched(
    measured: tuple[float | str | None, ...], below_db: float | None, said: str
) -> None:
    search = run(*measured, below_db=below_db)
    assert search.trouble() == said
    assert search.measured.keys() <= {0, 3}


NO_CODE = "unsupported: no code below AVX2"


@pytest.mark.parametrize(
    ("measured", "first", "said"),
    [
        ((40, 39, 20, NO_CODE), "c", "first bad: c"),
        ((40, 20, NO_CODE, NO_CODE), "b", "first bad: b"),
        ((NO_CODE, 40, 39, 20), "d", "first bad: d"),
        ((NO_CODE, 40, NO_CODE, 20), None, "the first bad one is among: c, d"),
    ],
)
def test_a_cap_that_is_not_supported_is_no_end(
    measured: tuple[float | str | None, ...], first: str | None, said: str
) -> None:
    search = run(*measured)
    assert search.trouble() is None
    found = search.result()
    assert (found.first_bad and found.first_bad.name, found.conclusion) == (first, said)
    assert {step.note for step in found.steps if step.bad is None} == {NO_CODE}


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ((40, NO_CODE, NO_CODE, NO_CODE), f"it takes two caps, and b, c, d: {NO_CODE}"),
        ((NO_CODE, "unsupported: b", 40), f"it takes two caps, and a: {NO_CODE}; b: unsupported: b"),
        ((40, 40, NO_CODE), "nothing is lost from a to b"),
        ((40, "crashed", NO_CODE), "b is an end of the search, and cannot be told: crashed"),
        (("crashed", 20, NO_CODE), "a is an end of the search, and cannot be told: crashed"),
    ],
)
def test_without_two_caps_that_are_supported_the_reasons_are_said(
    measured: tuple[float | str | None, ...], said: str
) -> None:
    assert run(*measured).trouble() == said


def test_a_commit_at_an_end_is_never_left_out() -> None:
    search = Search(over="commits", names=NAMES).with_step(3, given_by(NO_CODE))
    assert search.trouble() == f"d is an end of the search, and cannot be told: {NO_CODE}"


def compared(*measured: float | str | None, below_db: float | None = None) -> Environments:
    """Environments that differ in torch and instruction set, with these figures."""
    facts = (("2.12.1", "AVX512"), ("2.12.1", "AVX2"), ("2.13.0", "AVX512"), ("2.13.0", "AVX2"))
    some = Environments(
        over="environments",
        names=NAMES,
        documents=tuple({"torch": torch, "isa": isa, "os": "linux"} for torch, isa in facts),
        below_db=below_db,
    )
    assert some.due() == (0, 1, 2, 3)
    for at, what in enumerate(measured):
        some = some.with_step(at, given_by(what))
    return some


@pytest.mark.parametrize(
    ("measured", "below_db", "facts", "said"),
    [
        ((40, 20, 41, 20), None, ("isa = AVX2",), "bad where isa = AVX2"),
        ((40, 41, 20, 21), None, ("torch = 2.13.0",), "bad where torch = 2.13.0"),
        ((40, 41, 20, "not there"), None, ("torch = 2.13.0",), "bad where torch = 2.13.0"),
        (
            (40, 40, 40, 20),
            None,
            (),
            "1 of 4 environments are bad, and no one fact tells them from the others",
        ),
        ((40, 39, 38, 37), 38.5, ("torch = 2.13.0",), "bad where torch = 2.13.0"),
    ],
)
def test_environments_are_told_apart_by_what_the_bad_ones_alone_have(
    measured: tuple[float | str | None, ...], below_db: float | None, facts: tuple[str, ...], said: str
) -> None:
    some = compared(*measured, below_db=below_db)
    assert some.trouble() is None
    found: Bisection = some.result()
    assert (found.facts, found.conclusion) == (facts, said)
    assert [step.name for step in found.steps] == list(NAMES)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ((40, 40, 40, 40), "nothing differs between 4 environments"),
        ((40, "no", "no", "no"), "fewer than two environments gave a figure: no"),
    ],
)
def test_environments_that_cannot_be_told_apart_say_why(
    measured: tuple[float | str | None, ...], said: str
) -> None:
    assert compared(*measured).trouble() == said
