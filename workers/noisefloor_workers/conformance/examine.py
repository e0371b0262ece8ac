"""One case on the engine that is bound: run several times, held against the oracle."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case, Outcome, Verdict
from noisefloor_workers.conformance.given import Givens
from noisefloor_workers.conformance.operators.operator import InvalidCase, Operator, Posed
from noisefloor_workers.conformance.oracle import Exact

RUNS = 3
DEPRECATED = "torch.quantize_per_tensor, "  # said of every quantized tensor that is made
Kernel = Callable[[Givens], Tensor]
# float64 divides and multiplies in another order than the oracle does: this many steps, and relative
CROSS_CHECK = 1e-9


class OracleError(Exception):
    """The oracle and the formula in float64 disagree: no kernel can be judged."""


def examine(operator: Operator, case: Case, *, kernel: Kernel | None = None) -> Outcome | None:
    """What becomes of the case; None where its sizes make no call. `kernel` stands in for torch's."""
    try:
        posed = operator.pose(case)
    except InvalidCase:
        return None
    cross_check(operator, posed, case)
    run = kernel or operator.run
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=DEPRECATED, category=UserWarning)
            outputs = [run(posed.givens) for _ in range(RUNS)]
    except (RuntimeError, ValueError, IndexError) as error:
        words = str(error).partition("\nException raised from")[0]
        return Outcome(verdict=Verdict.UNSUPPORTED, reason=words[:2_000].replace("\0", ""))
    return judge(posed, outputs, bound_lsb=operator.bound_lsb)


def cross_check(operator: Operator, posed: Posed, case: Case) -> None:
    """Hold the oracle against the formula in float64, which another piece of code computes."""
    formula = operator.real(posed.givens) / posed.step + posed.zero_point
    exact = posed.exact
    found, wanted = (
        Exact(real=formula, magnitude=formula, low=exact.low, high=exact.high).clamped,
        exact.clamped,
    )
    if found.shape != wanted.shape:
        raise OracleError(f"{case}: shape {tuple(wanted.shape)} against {tuple(found.shape)}")
    if not torch.allclose(found, wanted, rtol=CROSS_CHECK, atol=CROSS_CHECK):
        raise OracleError(f"{case}: differs by {float((found - wanted).abs().max())} steps")


def judge(posed: Posed, outputs: list[Tensor], *, bound_lsb: float = 0.0) -> Outcome:
    """Codes against the exact result: equal, one off at a tie, or wrong; and the same on every run."""
    exact = posed.exact
    wanted, elements = exact.codes, exact.real.numel()
    differs = _differs(posed, outputs[0])
    if differs is not None:
        everything = max(elements, 1)
        return Outcome(verdict=Verdict.WRONG, elements=everything, wrong_elements=everything, reason=differs)
    found = [_codes(posed, output) for output in outputs]
    off = (found[0] - wanted).abs()
    allowed = (found[0] - exact.clamped).abs() <= 0.5 + bound_lsb + exact.slack
    wrong = int(((off > 0) & ~allowed).sum())
    largest = int(off.max()) if elements else 0
    if any(not torch.equal(again, found[0]) for again in found[1:]):
        verdict = Verdict.NONDETERMINISTIC
    elif wrong:
        verdict = Verdict.WRONG
    else:
        verdict = Verdict.WITHIN_1_LSB if largest else Verdict.EXACT
    return Outcome(
        verdict=verdict,
        elements=elements,
        wrong_elements=wrong,
        max_lsb=largest,
        sqnr_db=_sqnr_db(ref=wanted - posed.zero_point, error=off) if wrong else None,
    )


def _differs(posed: Posed, output: Tensor) -> str | None:
    """What is wrong with an output before its numbers are looked at."""
    if output.shape != posed.exact.real.shape:
        return f"its shape is {tuple(output.shape)}, and should be {tuple(posed.exact.real.shape)}"
    if output.is_quantized != (posed.form == "quantized"):
        return "it is quantized" if output.is_quantized else "it is not quantized"
    if posed.form == "codes" and output.is_floating_point():
        return "it is of floats, and should be of codes"
    carried = posed.form == "quantized" and output.numel() > 0  # a scale without a code is nobody's error
    if carried and (output.q_scale(), output.q_zero_point()) != (posed.step, posed.zero_point):
        return (
            f"its scale is {output.q_scale()} and its zero point {output.q_zero_point()}, "
            f"and should be {posed.step} and {posed.zero_point}"
        )
    if posed.form == "floats" and not torch.isfinite(output).all():
        return "it has values that are not finite"
    return None


def _codes(posed: Posed, output: Tensor) -> Tensor:
    if posed.form == "quantized":
        return output.int_repr().long()
    if posed.form == "codes":
        return output.long()
    return (output.double() / posed.step).round().long()


def _sqnr_db(*, ref: Tensor, error: Tensor) -> float | None:
    """20·log10(‖ref‖ / ‖error‖) of codes less their zero point; None where the reference is zero."""
    signal, noise = float(ref.double().norm()), float(error.double().norm())
    return 20 * math.log10(signal / noise) if signal else None
