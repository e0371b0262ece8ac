from hypothesis import given
from hypothesis import strategies as st

from noisefloor.history.sampling import sampled

lines = st.lists(st.none() | st.floats(-100, 100), min_size=1, max_size=400)


@st.composite
def marked(draw: st.DrawFn) -> tuple[list[float | None], set[int]]:
    values = draw(lines)
    return values, draw(st.sets(st.integers(0, len(values) - 1), max_size=20))


@given(marked(), st.integers(1, 200))
def test_extremes_ends_and_markers_are_kept_within_the_bound(
    line: tuple[list[float | None], set[int]], most: int
) -> None:
    values, markers = line
    kept = sampled(values, markers, most=most)
    assert kept == sorted(set(kept))
    assert {0, len(values) - 1} | markers <= set(kept)
    numbers = [value for value in values if value is not None]
    shown = [value for index in kept if (value := values[index]) is not None]
    if numbers:
        assert (min(shown), max(shown)) == (min(numbers), max(numbers))
    assert len(kept) <= max(most, len(markers) + 4)


@given(lines)
def test_a_line_that_fits_is_kept_whole(values: list[float | None]) -> None:
    assert sampled(values, (), most=len(values)) == list(range(len(values)))


def test_each_stretch_keeps_its_own_extremes() -> None:
    values: list[float | None] = [40.0] * 1000
    values[250], values[750] = 39.0, 41.0
    kept = sampled(values, (), most=10)
    assert {250, 750} <= set(kept)
    assert len(kept) <= 10
