"""Shrinking: as small as it can be while it fails."""

from hypothesis import given
from hypothesis import strategies as st

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.shrink import shrink

BIG = Case(
    op="quantized::conv2d",
    sizes={"batch": (3,), "channels": (16, 8), "padding": (2, 1)},
    values="full",
    layout="channels_last",
    per_channel=True,
    seed=7,
)


@given(at_least=st.integers(1, 16))
def test_the_least_lengths_that_fail_are_found(at_least: int) -> None:
    found = shrink(BIG, lambda case: case.sizes["channels"][0] >= at_least, tries=500)
    assert found.sizes == {"batch": (1,), "channels": (at_least, 1), "padding": (0, 0)}
    assert (found.layout, found.per_channel, found.bias) == ("contiguous", False, False)


def test_what_the_failure_needs_is_kept() -> None:
    found = shrink(BIG, lambda case: case.per_channel and case.sizes["padding"][1] == 1, tries=500)
    assert found.per_channel
    assert found.sizes["padding"] == (0, 1)


def test_it_ends_after_its_tries() -> None:
    asked: list[Case] = []

    def fails(case: Case) -> bool:
        asked.append(case)
        return False

    assert shrink(BIG, fails, tries=5) == BIG
    assert len(asked) == 5
