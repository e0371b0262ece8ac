"""Kernels that stand in for torch's: right ones, in float64, and ones with a fault."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.examine import Kernel
from noisefloor_workers.conformance.given import Given, Givens, Quantized, evaluate, reals
from noisefloor_workers.conformance.operators import InvalidCase
from noisefloor_workers.conformance.operators.operator import Operator, Posed

Fault = Callable[[Givens], Givens]


def right(operator: Operator, posed: Posed, fault: Fault = dict) -> Kernel:
    """The formula in float64, rounded; on givens that a fault has changed."""

    def kernel(givens: Givens) -> Tensor:
        real = operator.real(fault(givens))
        if posed.form == "floats":
            return real.float()
        codes = (real / posed.step + posed.zero_point).round().clamp(posed.exact.low, posed.exact.high)
        return torch._make_per_tensor_quantized_tensor(
            codes.to(torch.uint8), float(posed.step), posed.zero_point
        )

    return kernel


def _zero_point(given: Given) -> Given:
    return replace(given, zero_point=given.zero_point + 1) if isinstance(given, Quantized) else given


def _backwards(given: Given) -> Given:
    if isinstance(given, Quantized):
        return replace(given, codes=given.codes.flip(-1))
    if isinstance(given, Tensor):
        return given.flip(-1)
    return given[::-1] if isinstance(given, tuple) else given


def _lost_group(given: Given) -> Given:
    assert isinstance(given, Quantized)
    codes = given.codes.clone()
    codes[len(codes) // 2 :] = 0
    return replace(given, codes=codes)


def _rolled(given: Given) -> Given:
    assert isinstance(given, Quantized)
    return (
        replace(given, scale=(*given.scale[1:], given.scale[0])) if isinstance(given.scale, tuple) else given
    )


def _zeros(given: Given) -> Given:
    return torch.zeros_like(given) if isinstance(given, Tensor) else given


# What may be wrong with a kernel, and in what it is given it shows
FAULTS: dict[str, tuple[str, Callable[[Given], Given]]] = {
    "zero point off by one": ("x", _zero_point),
    "zero point of a off by one": ("a", _zero_point),
    "x read backwards": ("x", _backwards),
    "a read backwards": ("a", _backwards),
    "half of the weights lost": ("w", _lost_group),
    "scales of another channel": ("w", _rolled),
    "stride swapped": ("stride", _backwards),
    "padding swapped": ("padding", _backwards),
    "dilation swapped": ("dilation", _backwards),
    "bias forgotten": ("bias", _zeros),
}
# A pool, a curve and a norm may not feel a shift of their input by a step, or are to undo it
FEELS_A_STEP = ("linear", "conv")


def faults(operator: Operator) -> list[str]:
    """The faults that an operator is given enough to have."""
    _case, posed = next(valid(operator))
    givens = posed.givens

    def can_have(fault: str) -> bool:
        name, _change = FAULTS[fault]
        given = givens.get(name)
        if given is None or (isinstance(given, tuple) and len(given) == 1):
            return False
        if name == "dilation" and "avg" in operator.name:
            return False
        if name in {"stride", "padding"} and "adaptive" in operator.name:
            return False
        steps = isinstance(given, Quantized) and any(kind in operator.name for kind in FEELS_A_STEP)
        return fault != "zero point off by one" or steps

    return [fault for fault in FAULTS if can_have(fault)]


def with_fault(fault: str) -> Fault:
    """The givens with one of them changed."""
    name, change = FAULTS[fault]
    return lambda givens: {**givens, name: change(givens[name])}


def valid(operator: Operator) -> Iterator[tuple[Case, Posed]]:
    """The quick cases that make a call, with their exact results."""
    for case in operator.cases(True):  # noqa: FBT003 - quick
        with contextlib.suppress(InvalidCase):
            yield case, operator.pose(case)
