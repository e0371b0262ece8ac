"""Kernels that stand in for torch's: right ones, in float64, and ones with a fault."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case
from noisefloor_workers.conformance.examine import Kernel
from noisefloor_workers.conformance.given import Given, Givens, Quantized
from noisefloor_workers.conformance.operators import InvalidCase, move, reduction
from noisefloor_workers.conformance.operators.operator import Operator, Posed

Fault = Callable[[Givens], Givens]


def right(operator: Operator, posed: Posed, fault: Fault = dict) -> Kernel:
    """The formula in float64, rounded; on givens that a fault has changed."""

    def kernel(givens: Givens) -> Tensor:
        real = operator.real(fault(givens))
        if posed.form == "floats":
            return real.float()
        codes = (real / posed.step + posed.zero_point).round()
        return output(posed, codes.clamp(posed.exact.low, posed.exact.high))

    return kernel


def output(posed: Posed, codes: Tensor) -> Tensor:
    """What a kernel gives that has found these codes."""
    if posed.form == "floats":
        return (codes * posed.step).float()
    plain = codes.to(torch.uint8)
    if posed.form == "codes":
        return plain
    return torch._make_per_tensor_quantized_tensor(plain, float(posed.step), posed.zero_point)


def _zero_point(given: Given) -> Given:
    return replace(given, zero_point=given.zero_point + 1) if isinstance(given, Quantized) else given


def _higher(given: Given) -> Given:
    return replace(given, codes=given.codes + 1) if isinstance(given, Quantized) else given


def _twice(given: Given) -> Given:
    return replace(given, scale=2 * given.scale) if isinstance(given, Quantized) else given


def _negated(given: Given) -> Given:
    return -given if isinstance(given, float) else given


def _backwards(given: Given) -> Given:
    if isinstance(given, Quantized):
        return replace(given, codes=given.codes.flip(-1))
    if isinstance(given, Tensor):
        return given.flip(-1)
    return given[::-1] if isinstance(given, tuple) else given


def _lost_group(given: Given) -> Given:
    assert isinstance(given, Quantized | Tensor)
    codes = (given.codes if isinstance(given, Quantized) else given).clone()
    codes[len(codes) // 2 :] = 0
    return replace(given, codes=codes) if isinstance(given, Quantized) else codes


def _rolled(given: Given) -> Given:
    if isinstance(given, Tensor):
        return given.roll(1, 0)
    assert isinstance(given, Quantized)
    return (
        replace(given, scale=(*given.scale[1:], given.scale[0])) if isinstance(given.scale, tuple) else given
    )


def _zeros(given: Given) -> Given:
    if isinstance(given, Quantized):
        return replace(given, codes=torch.full_like(given.codes, given.zero_point))
    return torch.zeros_like(given) if isinstance(given, Tensor) else given


Shows = Callable[[Operator, Givens], bool]
# A pool, a curve and a norm may not feel a shift of their input by a step, or are to undo it
FEEL_A_STEP = ("linear", "conv")
# What sorts, picks or sums a row does not feel that it is read backwards
FEEL_NO_ORDER = {
    "aten::fill_",
    "aten::max",
    "aten::max.dim",
    "aten::min",
    "aten::min.dim",
    "aten::sort.stable",
    "aten::topk",
    *(f"aten::{kind} ({over})" for kind in ("mean.dim", "std.correction") for over in ("rows", "images")),
}
MOVE_UP = {operator.name for family in (move, reduction) for operator in family.OPERATORS} - {"aten::fill_"}


def _always(_operator: Operator, _givens: Givens) -> bool:
    return True


def _feels_a_step(operator: Operator, givens: Givens) -> bool:
    return isinstance(givens["x"], Quantized) and any(kind in operator.name for kind in FEEL_A_STEP)


def _moves_up(operator: Operator, _givens: Givens) -> bool:
    return operator.name in MOVE_UP and not _deviates(operator, _givens)


def _deviates(operator: Operator, _givens: Givens) -> bool:
    return "std" in operator.name


def _feels_order(operator: Operator, _givens: Givens) -> bool:
    return operator.name not in FEEL_NO_ORDER


def _by_channel(operator: Operator, givens: Givens) -> bool:
    return isinstance(givens["w"], Quantized) and any(case.per_channel for case, _posed in valid(operator))


def _many(_operator: Operator, givens: Givens) -> bool:
    return isinstance(givens.get("scale", givens.get("scale_and_zero")), Tensor)


def _has_windows(operator: Operator, givens: Givens) -> bool:
    # the sum of two shapes is refused, which tells nothing
    return "adaptive" not in operator.name and "added" not in givens


def _is_dilated(operator: Operator, givens: Givens) -> bool:
    return "avg" not in operator.name and "added" not in givens


def _has_cell_state(operator: Operator, _givens: Givens) -> bool:
    return "lstm" in operator.name


# What may be wrong with a kernel, in what it is given it shows, and on which operators
FAULTS: dict[str, tuple[str, Callable[[Given], Given], Shows]] = {
    "zero point off by one": ("x", _zero_point, _feels_a_step),
    "zero point of a off by one": ("a", _zero_point, _always),
    "a code too high": ("x", _higher, _moves_up),
    "scale of twice the size": ("x", _twice, _deviates),
    "x read backwards": ("x", _backwards, _feels_order),
    "a read backwards": ("a", _backwards, _always),
    "b read backwards": ("b", _backwards, _always),
    "half of the weights lost": ("w", _lost_group, _always),
    "half of the gates of the input lost": ("w0", _lost_group, _always),
    "half of the gates of the state lost": ("v0", _lost_group, _always),
    "half of the rows lost": ("codes", _lost_group, _always),
    "scales of another channel": ("w", _rolled, _by_channel),
    "scales of another row": ("scale", _rolled, _many),
    "scales of another group": ("scale_and_zero", _rolled, _many),
    "stride swapped": ("stride", _backwards, _has_windows),
    "padding swapped": ("padding", _backwards, _has_windows),
    "dilation swapped": ("dilation", _backwards, _is_dilated),
    "height and width swapped": ("out", _backwards, _always),
    "points of the grid swapped": ("grid", _backwards, _always),
    "bias forgotten": ("bias", _zeros, _always),
    "sum forgotten": ("added", _zeros, _always),
    "state forgotten": ("h", _zeros, _always),
    "cell state forgotten": ("c", _zeros, _has_cell_state),
    "weights of samples forgotten": ("samples", _zeros, _always),
    "indices read backwards": ("indices", _backwards, _always),
    "places read backwards": ("places", _backwards, _always),
    "sign of the number lost": ("number", _negated, _always),
    "sign of the value lost": ("value", _negated, _always),
}


def faults(operator: Operator) -> list[str]:
    """The faults that an operator is given enough to have."""
    _case, posed = next(valid(operator))
    return [
        fault
        for fault, (name, _change, shows) in FAULTS.items()
        if _is_some(posed.givens.get(name)) and shows(operator, posed.givens)
    ]


def _is_some(given: Given) -> bool:
    return given is not None and not (isinstance(given, tuple) and len(given) == 1)


def with_fault(fault: str) -> Fault:
    """The givens with one of them changed."""
    name, change, _shows = FAULTS[fault]
    return lambda givens: {**givens, name: change(givens[name])}


def valid(operator: Operator) -> Iterator[tuple[Case, Posed]]:
    """The quick cases that make a call, with their exact results."""
    for case in operator.cases(True):  # noqa: FBT003 - quick
        with contextlib.suppress(InvalidCase):
            yield case, operator.pose(case)
