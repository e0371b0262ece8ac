"""What is said of a kernel: planted faults are found in every operator, and every other end has its name."""

from collections.abc import Callable

import pytest
import torch
from tests.conformance.kernels import faults, output, right, valid, with_fault
from torch import Tensor

from noisefloor.contract.conformance import Case, Outcome, Verdict
from noisefloor_workers.conformance.examine import examine
from noisefloor_workers.conformance.given import Givens
from noisefloor_workers.conformance.operators import OPERATORS

PLANTED = [(name, fault) for name, operator in sorted(OPERATORS.items()) for fault in faults(operator)]
LINEAR = OPERATORS["quantized::linear"]
CASE = Case(op=LINEAR.name, sizes={"batch": (3,), "channels": (4, 5)})


@pytest.mark.parametrize(("name", "fault"), PLANTED)
def test_a_planted_fault_is_found(name: str, fault: str) -> None:
    operator, planted = OPERATORS[name], with_fault(fault)
    for case, posed in valid(operator):
        outcome = examine(operator, case, kernel=right(operator, posed, planted))
        if outcome is not None and outcome.verdict is Verdict.WRONG:
            assert outcome.wrong_elements > 0
            return
    pytest.fail("no case tells the fault")


def test_every_family_has_planted_faults() -> None:
    assert {name for name, _fault in PLANTED} == set(OPERATORS)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_one_code_beyond_rounding_is_found(name: str) -> None:
    """One element is off by two, or by one beyond what the operator may be."""
    operator = OPERATORS[name]
    case = next(case for case, posed in valid(operator) if posed.exact.real.numel())
    off = 1 + int(2 * operator.bound_lsb)
    assert said_of(case, lambda codes: codes.index_put((torch.tensor(0),), _moved(codes[0], off))) == (
        Verdict.WRONG,
        1,
    )


def _moved(code: Tensor, off: int) -> Tensor:
    return code + off if code < 128 else code - off


def said_of(case: Case, change: Callable[[Tensor], Tensor]) -> tuple[Verdict, int]:
    """The verdict and the largest difference of a kernel that gives the right codes, changed."""
    operator = OPERATORS[case.op]
    posed = operator.pose(case)

    def kernel(givens: Givens) -> Tensor:
        del givens
        return output(posed, change(posed.exact.codes.flatten()).reshape(posed.exact.codes.shape))

    outcome = examine(operator, case, kernel=kernel)
    assert outcome is not None
    return outcome.verdict, outcome.wrong_elements


def of(kernel: Callable[[Givens], Tensor]) -> Outcome:
    outcome = examine(LINEAR, CASE, kernel=kernel)
    assert outcome is not None
    return outcome


def exact(_: Givens) -> Tensor:
    return right(LINEAR, LINEAR.pose(CASE))(LINEAR.pose(CASE).givens)


def test_a_tie_the_other_way_is_within_one_and_a_plain_one_is_wrong() -> None:
    case = Case(op=LINEAR.name, sizes={"batch": (8,), "channels": (16, 16)}, values="ties")
    real = LINEAR.pose(case).exact.clamped.flatten()
    tie = ((real - real.floor()) == 0.5).nonzero()[0]
    left = real - real.round()
    plain = ((left.abs() > 0.1) & (left.abs() < 0.4)).nonzero()[0]
    nearest = (real.round() + left.sign())[plain].long()
    up = real[tie].floor() + real[tie].ceil() - real[tie].round()
    assert said_of(case, lambda codes: codes.index_put((tie,), up.long())) == (Verdict.WITHIN_1_LSB, 0)
    assert said_of(case, lambda codes: codes.index_put((plain,), nearest)) == (
        Verdict.WRONG,
        1,
    )


def test_a_kernel_that_answers_otherwise_the_next_time_is_not_deterministic() -> None:
    runs = iter((0, 1, 0))

    def kernel(givens: Givens) -> Tensor:
        output = exact(givens)
        codes = output.int_repr() + next(runs)
        return torch._make_per_tensor_quantized_tensor(codes, output.q_scale(), output.q_zero_point())

    assert of(kernel).verdict is Verdict.NONDETERMINISTIC


def test_what_torch_refuses_is_unsupported_in_its_words() -> None:
    def kernel(_: Givens) -> Tensor:
        raise RuntimeError("only 7 channels are supported")

    outcome = of(kernel)
    assert (outcome.verdict, outcome.reason) == (Verdict.UNSUPPORTED, "only 7 channels are supported")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda out: out[:2], "its shape is (2, 5), and should be (3, 5)"),
        (lambda out: out.dequantize(), "it is not quantized"),
        (
            lambda out: torch._make_per_tensor_quantized_tensor(out.int_repr(), out.q_scale(), 7),
            "its zero point 7",
        ),
    ],
)
def test_an_output_of_another_form_is_wrong(change: Callable[[Tensor], Tensor], said: str) -> None:
    outcome = of(lambda givens: change(exact(givens)))
    assert outcome.verdict is Verdict.WRONG
    assert outcome.reason is not None
    assert said in outcome.reason


def test_floats_where_codes_should_be_are_wrong() -> None:
    operator = OPERATORS["onednn::qadd.tensor"]
    case = Case(op=operator.name, sizes={"shape": (2, 3)})
    outcome = examine(operator, case, kernel=lambda _: torch.zeros(2, 3))
    assert outcome is not None
    assert (outcome.verdict, outcome.reason) == (
        Verdict.WRONG,
        "it is of floats, and should be of codes",
    )


def test_a_float_output_that_is_not_a_number_is_wrong() -> None:
    operator = OPERATORS["quantized::linear_dynamic"]
    case = CASE.replace(op=operator.name)
    outcome = examine(operator, case, kernel=lambda _: torch.full((3, 5), float("nan")))
    assert outcome is not None
    assert (outcome.verdict, outcome.reason) == (Verdict.WRONG, "it has values that are not finite")


def test_the_figures_are_those_of_the_codes() -> None:
    wanted = LINEAR.pose(CASE).exact.codes

    def kernel(givens: Givens) -> Tensor:
        output = exact(givens)
        codes = output.int_repr().flatten().clone()
        codes[0] = 0 if codes[0] > 127 else 255
        return torch._make_per_tensor_quantized_tensor(
            codes.reshape(output.shape), output.q_scale(), output.q_zero_point()
        )

    outcome = of(kernel)
    off = max(int(wanted.flatten()[0]), 255 - int(wanted.flatten()[0]))
    signal = (wanted - LINEAR.pose(CASE).zero_point).double().norm()
    assert (outcome.elements, outcome.wrong_elements, outcome.max_lsb) == (15, 1, off)
    assert outcome.sqnr_db == pytest.approx(float(20 * torch.log10(signal / off)))
