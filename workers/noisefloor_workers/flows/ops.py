"""Torch's operators that quantize, each as a call without arguments that can be timed.

An operator is no model: this flow turns operands into results, where the others turn models into variants.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

from noisefloor.contract.benchmark import FAKE_QUANTIZE, Dtype, Operator
from noisefloor.contract.lane import Engine
from noisefloor.contract.scheme import Edge, Mode
from noisefloor_workers.lanes.engine import Unsupported
from noisefloor_workers.numerics import affine
from noisefloor_workers.subjects.operands import Operands

ENGINES: tuple[Engine, ...] = ("aten",)
QUANTIZED: dict[Dtype, torch.dtype] = {
    "quint8": torch.quint8,
    "qint8": torch.qint8,
    "qint32": torch.qint32,
}
STORED: dict[Dtype, torch.dtype] = {"quint8": torch.uint8, "qint8": torch.int8, "qint32": torch.int32}
# Torch's words for a dtype that an operator, or its gradient, does not take
DTYPE_WORDS = ("scalar_type()", "Zero-point must be", "expected scalar type", "not implemented for")

MODULE: Callable[..., Any] = FakeQuantize
Result = Tensor | dict[str, Tensor]
Fake = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is timed, what it gives as real numbers, and the tensors that go in and come out.

    `operands`: as they were given, but for `FakeQuantize`, whose observer finds scale and zero point.
    """

    run: Callable[[], object]
    result: Result
    tensors: tuple[Tensor, ...]
    operands: Operands

    @property
    def size_bytes(self) -> int:
        """Of all tensors, each counted once."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)


def edges(operator: Operator, mode: Mode) -> tuple[Edge, ...]:
    """What can be measured of an operator in a pass. Raises Unsupported where it has no such pass."""
    if operator.is_fake:
        return ("float64->fake", "fake->true") if mode == "forward" else ("float64->fake",)
    if mode == "backward":
        raise Unsupported(f"{operator.name} has no gradient; it has the mode forward")
    return ("float64->true",)


def call(operator: Operator, mode: Mode, given: Operands) -> Call:
    """The operator on its operands, run once.

    Raises Unsupported, in torch's words, where torch does not take the dtype of the zero points.
    """
    try:
        if mode == "backward":
            return _backward(operator, given)
        return _fake_forward(operator, given) if operator.is_fake else _true_forward(operator, given)
    except RuntimeError as error:
        said = str(error).partition("\n")[0]
        if any(words in said for words in DTYPE_WORDS):
            raise Unsupported(f"{operator.stored_zero_point} zero points: {said}") from error
        raise


def formula(operator: Operator, mode: Mode, given: Operands) -> Result:
    """The same by the published formulas in float64, rounded once to float32 if the operator gives that."""
    if mode == "backward":
        by = affine.gradients(given.upstream, given.x, **given.qparams, low=given.low, high=given.high)
        found = {"input": by[0], "scale": by[1].flatten(), "zero_point": by[2].flatten()}
        if not operator.is_learnable:
            return by[0].float()
        return {name: gradient.float() for name, gradient in found.items()}
    real = affine.dequantized(given.codes, **given.qparams)
    return real if _gives_codes(operator) else real.float()


def true_of_fake(operator: Operator, given: Operands) -> Tensor:
    """What quantizing and dequantizing makes of the operands of a fake quantization; zero points are int32.

    Torch has no 4 bits here: 8-bit codes are clamped to 4 bits, which gives the same.
    """
    given = dataclasses.replace(given, zero_point=given.zero_point.int())
    codes = _quantize(operator, given)().int_repr().clamp_(given.low, given.high)
    return _holding(codes, given).dequantize()


def _gives_codes(operator: Operator) -> bool:
    return operator.name.startswith("quantize")


def _true_forward(operator: Operator, given: Operands) -> Call:
    if not _gives_codes(operator):
        codes = given.codes.to(STORED[operator.dtype])
        run = _holding(codes, given).dequantize
        real = run()
        return Call(run=run, result=real, tensors=(codes, real), operands=given)
    quantize = _quantize(operator, given)
    codes = quantize().int_repr()
    real = affine.dequantized(codes, **given.qparams)
    return Call(run=quantize, result=real, tensors=(given.x, codes), operands=given)


def _quantize(operator: Operator, given: Operands) -> Callable[[], Tensor]:
    dtype, qparams = QUANTIZED[operator.dtype], (given.scale, given.zero_point)
    if given.axis is not None:
        return partial(torch.quantize_per_channel, given.x, *qparams, given.axis, dtype=dtype)
    if given.zero_point.is_floating_point():
        return partial(torch.quantize_per_tensor, given.x, *qparams, dtype)
    return partial(torch.quantize_per_tensor, given.x, *_numbers(given), dtype)


def _holding(codes: Tensor, given: Operands) -> Tensor:
    """A quantized tensor with these codes."""
    if given.axis is not None:
        made = torch._make_per_channel_quantized_tensor  # noqa: SLF001 - there is no other from codes
        return made(codes, given.scale, given.zero_point, given.axis)
    return torch._make_per_tensor_quantized_tensor(codes, *_numbers(given))  # noqa: SLF001 - nor here


def _numbers(given: Operands) -> tuple[float, int]:
    """Scale and zero point of a whole tensor."""
    return given.scale.item(), int(given.zero_point.item())


def _fake_forward(operator: Operator, given: Operands) -> Call:
    fake, given = _fake(operator, given)
    run = partial(fake, given.x, given.scale, given.zero_point)
    real = run()
    return Call(run=run, result=real, tensors=(given.x, real), operands=given)


def _backward(operator: Operator, given: Operands) -> Call:
    """The gradients of what the operator takes, of a graph that is kept."""
    fake, given = _fake(operator, given)
    taken = {"input": given.x, "scale": given.scale, "zero_point": given.zero_point}
    learned = taken if operator.is_learnable else {"input": given.x}
    leaves = {
        name: tensor.detach().clone().requires_grad_(tensor.is_floating_point() and name in learned)
        for name, tensor in taken.items()
    }
    with torch.enable_grad():
        out = fake(*leaves.values())
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    run = partial(torch.autograd.grad, out, list(wanted.values()), given.upstream, retain_graph=True)
    gradients = dict(zip(wanted, run(), strict=True))
    tensors = (given.upstream, given.x, *gradients.values())
    result = gradients if operator.is_learnable else gradients["input"]
    return Call(run=run, result=result, tensors=tensors, operands=given)


def _fake(operator: Operator, given: Operands) -> tuple[Fake, Operands]:
    """The operator, and the operands with which it quantizes."""
    low, high, axis = given.low, given.high, given.axis
    if operator.name == FAKE_QUANTIZE:
        return _module(operator, given)
    if axis is not None:
        per_channel = (
            torch._fake_quantize_learnable_per_channel_affine  # noqa: SLF001 - it has no other name
            if operator.is_learnable
            else torch.fake_quantize_per_channel_affine
        )
        return lambda x, scale, zero_point: per_channel(x, scale, zero_point, axis, low, high), given
    if operator.is_learnable:
        learnable = torch._fake_quantize_learnable_per_tensor_affine  # noqa: SLF001 - likewise
        return lambda x, scale, zero_point: learnable(x, scale, zero_point, low, high), given
    original = torch.fake_quantize_per_tensor_affine
    if given.zero_point.is_floating_point():
        return lambda x, scale, zero_point: original(x, scale, zero_point, low, high), given
    numbers = _numbers(given)
    return lambda x, *_: original(x, *numbers, low, high), given


def _module(operator: Operator, given: Operands) -> tuple[Fake, Operands]:
    """The module in training, with its default observer, which has seen the input once."""
    dtype = QUANTIZED[operator.dtype]
    module = MODULE(MovingAverageMinMaxObserver, given.low, given.high, dtype=dtype).to(given.x.device)
    module(given.x)
    found = dataclasses.replace(given, scale=module.scale.clone(), zero_point=module.zero_point.clone())
    return lambda x, *_: module(x), found
