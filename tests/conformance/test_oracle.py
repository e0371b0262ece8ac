"""The oracle: integers against torch's float64, which is exact where the sums are below 2**53."""

from dataclasses import replace

import pytest
import torch
from tests.conformance.kernels import right, valid
from torch.nn import functional

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance import oracle
from noisefloor_workers.conformance.examine import OracleError, examine
from noisefloor_workers.conformance.operators import OPERATORS

EVERY = sorted(OPERATORS)


def codes(*shape: int, seed: int) -> torch.Tensor:
    return torch.randint(-255, 256, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 2, 2)])
def test_convolutions_in_integers_are_those_of_float64(
    dims: int, groups: int, stride: int, padding: int, dilation: int
) -> None:
    image, kernel = (9, 7, 8)[:dims], (3, 2, 3)[:dims]
    x = codes(2, 2 * groups, *image, seed=1)
    how = {
        "stride": (stride, 1, 2)[:dims],
        "padding": (padding, 1, 0)[:dims],
        "dilation": (dilation, 1, 2)[:dims],
    }
    w = codes(5 * groups, 2, *kernel, seed=2)
    plain = getattr(functional, f"conv{dims}d")(x.double(), w.double(), None, *how.values(), groups)
    assert torch.equal(oracle.convolution(x, w, **how, groups=groups), plain.long())

    w = codes(2 * groups, 5, *kernel, seed=3)
    end = tuple(max(s, d) - 1 for s, d in zip(how["stride"], how["dilation"], strict=True))
    transposed = getattr(functional, f"conv_transpose{dims}d")(
        x.double(), w.double(), None, how["stride"], how["padding"], end, groups, how["dilation"]
    )
    found = oracle.transposed_convolution(x, w, **how, output_padding=end, groups=groups)
    assert torch.equal(found, transposed.long())


def test_a_tie_goes_to_the_even_code_and_the_range_is_kept() -> None:
    exact = oracle.requantized(
        torch.tensor([0.25, 0.75, -99.0, 999.0]).double(), scale=0.5, zero_point=2, relu=True
    )
    assert exact.codes.tolist() == [2, 4, 2, 255]


@pytest.mark.parametrize("name", EVERY)
def test_every_case_stands_the_cross_check_and_a_right_kernel_is_never_at_fault(name: str) -> None:
    operator = OPERATORS[name]
    outcomes = [examine(operator, case, kernel=right(operator, posed)) for case, posed in valid(operator)]
    assert outcomes
    assert not any(outcome is None or outcome.verdict.is_fault for outcome in outcomes)


@pytest.mark.parametrize("name", EVERY)
def test_a_case_follows_from_its_json(name: str) -> None:
    operator = OPERATORS[name]
    case, posed = next(valid(operator))
    again = operator.pose(Case.model_validate_json(case.model_dump_json()))
    assert torch.equal(posed.exact.real, again.exact.real)


def test_an_oracle_that_disagrees_with_its_formula_judges_nothing() -> None:
    operator = OPERATORS["quantized::linear"]
    wrong = replace(operator, formula=operator.formula.replace("bias_real", "None"))
    case = Case(op=wrong.name, sizes={"batch": (3,), "channels": (4, 5)})
    with pytest.raises(OracleError, match="differs by"):
        examine(wrong, case)


def test_cases_of_ties_have_ties() -> None:
    sizes = {"batch": (8,), "channels": (512, 16)}
    steps = OPERATORS["quantized::linear"].pose(Case(op="quantized::linear", sizes=sizes, values="ties"))
    real = steps.exact.clamped
    assert ((real - real.floor()) == 0.5).any()
