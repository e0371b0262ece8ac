"""Which tensors can be measured against each other, and in which form."""

import torch
from torch import Tensor


def plain(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, detached, dense and dequantized (a quantized tensor counts as float32)."""
    tensor = tensor.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return tensor.resolve_conj().resolve_neg()


def is_measurable(tensor: Tensor) -> bool:
    """Whether a ratio of energies means something: floating point, complex or quantized.

    Integers, bools and the packed `float4_e2m1fn_x2` have no such ratio; equality is what they have.
    """
    if tensor.dtype == torch.float4_e2m1fn_x2:
        return False
    return tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized


def as_float64(tensor: Tensor) -> Tensor:
    """A measurable tensor in float64, exact for every dtype.

    Shape: that of the tensor; a complex one gains a last axis of 2, real and imaginary part.
    Raises ValueError for a tensor that is not measurable.
    """
    if not is_measurable(tensor):
        raise ValueError(f"a tensor of {tensor.dtype} has no signal to noise ratio")
    tensor = plain(tensor)
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).to(torch.float64)


def difference(*, ref: Tensor, actual: Tensor) -> str | None:
    """What makes two tensors incomparable, in words: shape or dtype. None where nothing does.

    Strict: `(3, 1)` and `(3,)` differ, float32 and float16 differ; nothing is broadcast or promoted.

    >>> difference(ref=torch.zeros(3, 1), actual=torch.zeros(3))
    'shape (3, 1) in ref, (3,) in actual'
    """
    if ref.shape != actual.shape:
        return f"shape {tuple(ref.shape)} in ref, {tuple(actual.shape)} in actual"
    ref_dtype, actual_dtype = (torch.float32 if t.is_quantized else t.dtype for t in (ref, actual))
    if ref_dtype != actual_dtype:
        return f"dtype {ref_dtype} in ref, {actual_dtype} in actual"
    return None
