"""What torch registers with a quantized kernel: what holds it here, and why the rest is left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from noisefloor_workers.conformance.operators import OPERATORS, Operator

KEY = "QuantizedCPU"
NAMESPACES = ("quantized::", "_quantized::", "onednn::", "sparse::", "aten::quantized_")

# Patterns of names, by why no entry of ours holds them
LEFT_OUT: Mapping[str, tuple[str, ...]] = {
    "packs what it is given for the operator whose cases call it": (
        "onednn::*_prepack",
        "onednn::linear_prepack_fp16",
        "quantized::conv[123]d_prepack",
        "quantized::conv_transpose[123]d_prepack",
        "quantized::embedding_bag_prepack",
        "quantized::linear_prepack",
        "quantized::linear_prepack_fp16",
        "quantized::make_quantized_cell_params_dynamic",
        "quantized::make_quantized_cell_params_fp16",
        "sparse::qlinear_prepack",
    ),
    "gives back what was packed; computes nothing": (
        "quantized::*_unpack",
        "quantized::conv2d_unpack_sizes",
        "quantized::linear_unpack*",
        "quantized::conv*d_dilation",
        "quantized::conv*d_groups",
        "quantized::conv*d_output_padding",
        "quantized::conv*d_padding",
        "quantized::conv*d_stride",
        "quantized::conv*d_transpose",
        "sparse::qlinear_unpack",
    ),
    "an old name of the kernel of the same name in quantized::": (
        "_quantized::add",
        "_quantized::conv*",
        "_quantized::linear",
        "_quantized::linear_dynamic",
        "_quantized::linear_prepack*",
        "quantized::conv_prepack",
        "quantized::conv_unpack",
        "quantized::linear_prepack_legacy",
        "quantized::linear_prepack_fp16_legacy",
    ),
    "an old form that ignores the arguments that are packed too; its kernel is that of `.new`": (
        "quantized::conv[23]d",
        "quantized::conv[23]d_relu",
    ),
    "an old form of weights that FBGEMM packs, for models that were saved with it": (
        "aten::quantized_*_cell",
        "aten::quantized_*.input_legacy",
        "aten::quantized_*.data_legacy",
        "quantized::make_quantized_cell_params",
    ),
    "for compilers: packs or quantizes, and calls linear kernels that are held here": (
        "_quantized::*wrapped_*",
    ),
    "the kernel of the same name, over a packed sequence": (
        "aten::quantized_gru.data",
        "aten::quantized_lstm.data",
    ),
    "the kernel of the same name, into a tensor that is given": (
        "aten::*.out",
        "aten::*_out",
        "aten::gelu_",
        "aten::hardtanh_",
        "aten::leaky_relu_",
        "aten::relu_",
        "quantized::*.out",
        "quantized::*_out",
        "quantized::*_out.Tensor",
    ),
    "the kernel of the same name, with a number given as a tensor or the other way round": (
        "aten::fill_.Tensor",
        "aten::masked_fill_.Tensor",
        "onednn::*.tensor",
        "onednn::*.binary_tensor",
        "quantized::*_scalar.Tensor",
        "quantized::*_scalar_relu.Tensor",
        "quantized::*.Scalar",
        "quantized::*.Scalar2",
    ),
    "a list of what `aten::dequantize.self` takes": ("aten::dequantize.tensors",),
    "one truth about two tensors, in which `aten::eq.Tensor` is held": ("aten::equal",),
    "memory, shape or parameters; no arithmetic": (
        "aten::_empty_affine_quantized",
        "aten::_empty_per_channel_affine_quantized",
        "aten::_reshape_alias",
        "aten::as_strided",
        "aten::empty*",
        "aten::int_repr",
        "aten::q_*",
        "aten::qscheme",
        "aten::resize_",
        "aten::set_.source_Storage_storage_offset",
        "aten::squeeze*",
        "aten::unsqueeze",
        "aten::view",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registered operator: the entries that hold it, or else why there is none; neither where it is new."""

    name: str
    by: tuple[str, ...] = ()
    reason: str | None = None


def registered() -> list[str]:
    """Every operator of the quantized namespaces, and every one with a quantized kernel for a CPU."""
    schemas = torch._C._jit_get_all_schemas()  # noqa: SLF001 - torch has no other list
    names = {f"{s.name}.{s.overload_name}".rstrip(".") for s in schemas if s.name.startswith(NAMESPACES)}
    return sorted(names | set(torch._C._dispatch_get_registrations_for_dispatch_key(KEY)))  # noqa: SLF001


def coverage(operators: Mapping[str, Operator] = OPERATORS) -> Iterator[Registered]:
    """What holds each registered operator, or why nothing does."""
    by: dict[str, list[str]] = {}
    for operator in operators.values():
        for name in operator.registered:
            by.setdefault(name, []).append(operator.name)
    for name in registered():
        yield Registered(name=name, by=tuple(by.get(name, ())), reason=None if name in by else _reason(name))


def _reason(name: str) -> str | None:
    return next(
        (why for why, patterns in LEFT_OUT.items() if any(fnmatchcase(name, one) for one in patterns)), None
    )
