"""The grid: what varies over an operator's cases."""

from collections.abc import Iterable

import pytest
import torch
from tests.conformance.kernels import valid

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.examine import RUNS
from noisefloor_workers.conformance.given import Quantized
from noisefloor_workers.conformance.operators import OPERATORS, recurrent
from noisefloor_workers.conformance.operators.linear import VALUES
from noisefloor_workers.conformance.operators.operator import Posed

# neither has a range, or a spread, of nothing
NEVER_EMPTY = {operator.name.partition(" ")[0] for operator in recurrent.OPERATORS}
NEVER_EMPTY |= {"quantized::instance_norm"}
CONVOLUTIONS = [name for name in OPERATORS if "conv" in name and "empty" not in name]
# what is no case of its own, beside the whole: dynamic layers take floats, which have no layout to speak of
LAID_OUT = 4


def quantized(posed: Posed, *names: str) -> list[Quantized]:
    return [one for one in (posed.givens.get(name) for name in names) if isinstance(one, Quantized)]


@pytest.mark.parametrize("name", sorted({name.partition(" ")[0] for name in OPERATORS}))
def test_values_layouts_batches_and_granularity_vary(name: str) -> None:
    """Over all entries of a name."""
    entries = [operator for each, operator in OPERATORS.items() if each.partition(" ")[0] == name]
    cases = [one for operator in entries for one in valid(operator)]
    inputs = [one for _case, posed in cases for one in quantized(posed, "x", "a")]
    weights = [one for _case, posed in cases for one in quantized(posed, "w", "w0")]
    if inputs or weights:
        assert {case.values for case, _posed in cases} == set(VALUES)
    if inputs:
        assert any(one.layout == "strided" for one in inputs)
    if any(one.codes.dim() >= LAID_OUT for one in inputs):
        assert any(one.layout == "channels_last" for one in inputs)
    if any(one.dtype is torch.qint8 for one in weights):
        assert any(isinstance(one.scale, tuple) for one in weights)
        assert any(isinstance(one.scale, float) for one in weights)
    if "batch" in cases[0][0].sizes and name not in NEVER_EMPTY:
        assert {0, 1} <= {case.sizes["batch"][0] for case, _posed in cases if case.sizes["batch"]}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_vary_in_all_they_take(name: str) -> None:
    cases = [case for case, _posed in valid(OPERATORS[name])]

    def some(size: str, values: Iterable[int]) -> bool:
        return any(set(case.sizes[size]) & set(values) for case in cases)

    assert some("stride", (2, 3))
    assert some("padding", (1, 2))
    assert some("dilation", (2,))
    assert some("groups", (1,))
    assert some("groups", (2, 3))
    assert any(_is_depthwise(case) for case in cases)
    assert any(case.sizes["channels"][0] < case.sizes["channels"][1] for case in cases)
    assert any(case.sizes["channels"][0] > case.sizes["channels"][1] for case in cases)
    assert len({case.sizes["kernel"] for case in cases}) > 1
    assert {case.bias for case in cases} == {True, False}


def _is_depthwise(case: Case) -> bool:
    return case.sizes["groups"][0] > 1 and case.sizes["channels"][0] == 1


def test_each_case_runs_several_times() -> None:
    assert RUNS >= 3
