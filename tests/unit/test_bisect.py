"""Bisecting against a linear search."""

import math

from hypothesis import given
from hypothesis import strategies as st

from noisefloor.gate.bisect import bisect


@given(st.data(), st.integers(1, 200))
def test_the_first_bad_step_is_found_in_few_probes(data: st.DataObject, steps: int) -> None:
    first = data.draw(st.integers(1, steps))
    found = bisect(steps, lambda step: step >= first)
    assert found.first_bad == first
    assert len(found.told) <= math.ceil(math.log2(steps)) + 1


@given(st.data(), st.integers(1, 30))
def test_what_cannot_be_told_leaves_no_more_than_it_must(data: st.DataObject, steps: int) -> None:
    first = data.draw(st.integers(1, steps))
    unknown = data.draw(st.frozensets(st.integers(1, steps - 1))) if steps > 1 else frozenset()
    found = bisect(steps, lambda step: None if step in unknown else step >= first)
    good = max((s for s in range(1, first) if s not in unknown), default=0)
    bad = min((s for s in range(first, steps) if s not in unknown), default=steps)
    assert found.candidates == tuple(range(good + 1, bad + 1))
    assert first in found.candidates
