"""Recurrent layers: what is quantized on the way, and where no code can be said."""

import pytest
import torch

from noisefloor_workers.conformance.operators.gates import dynamic
from noisefloor_workers.conformance.operators.operator import InvalidCase


def test_codes_span_the_range_and_zero_is_a_code() -> None:
    codes, scale = dynamic(torch.tensor([-1.0, 0.0, 1.1, 4.1], dtype=torch.float64), 255)
    assert codes.tolist() == [-50, 0, 55, 205]
    assert scale == pytest.approx(5.1 / 255)


@pytest.mark.parametrize("off", [0.0, 0.0009])
def test_a_state_near_a_tie_makes_no_case(off: float) -> None:
    with pytest.raises(InvalidCase, match="near a tie"):
        dynamic(torch.tensor([0.0, 7.5 + off, 255.0], dtype=torch.float64), 255)
    assert dynamic(torch.tensor([0.0, 7.49, 255.0], dtype=torch.float64), 255)[0].tolist() == [0, 7, 255]


def test_states_of_nothing_but_zero_make_no_case() -> None:
    with pytest.raises(InvalidCase, match="span no range"):
        dynamic(torch.zeros(3, dtype=torch.float64), 255)
