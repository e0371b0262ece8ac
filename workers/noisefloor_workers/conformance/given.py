"""What an operator is given: tensors by their integers, floats and numbers; as values and as source."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from noisefloor.contract.conformance import Layout

MEMORY_FORMATS = {4: "channels_last", 5: "channels_last_3d"}
CODES = {torch.quint8: "uint8", torch.qint8: "int8"}


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized tensor by its integers.

    `codes` is int64; `scale` is a float, or one a channel of `axis`. Per channel, the zero point is the same
    on all channels. What is `plain` is given as integers, to operators that take scale and zero point apart.
    """

    codes: Tensor
    scale: float | tuple[float, ...]
    zero_point: int
    axis: int = 0
    dtype: torch.dtype = torch.quint8
    layout: Layout = "contiguous"
    plain: bool = False

    @property
    def centred(self) -> Tensor:
        """The integers less their zero point, int64."""
        return self.codes - self.zero_point

    @property
    def scales(self) -> Tensor:
        """The scale, float64, in a shape that broadcasts against the codes."""
        if isinstance(self.scale, float):
            return torch.tensor(self.scale, dtype=torch.float64)
        shape = [-1 if dim == self.axis else 1 for dim in range(self.codes.dim())]
        return torch.tensor(self.scale, dtype=torch.float64).reshape(shape)

    @property
    def source(self) -> str:
        """The expression that makes torch's tensor of the integers in `codes`."""
        codes, end = f"codes.to(torch.{CODES[self.dtype]})", ""
        if self.layout == "strided":
            codes, end = f"torch.stack([{codes}, 1 + {codes}], -1).flatten(-2)", "[..., ::2]"
        elif self.layout == "channels_last":
            end = f".contiguous(memory_format=torch.{MEMORY_FORMATS[self.codes.dim()]})"
        if self.plain:
            return f"{codes}{end}"
        if isinstance(self.scale, float):
            return f"torch._make_per_tensor_quantized_tensor({codes}, {self.scale!r}, {self.zero_point}){end}"
        scales = f"torch.tensor({list(self.scale)!r}, dtype=torch.float64)"
        zero_points = f"torch.tensor({[self.zero_point] * len(self.scale)!r})"
        made = f"torch._make_per_channel_quantized_tensor({codes}, {scales}, {zero_points}, {self.axis})"
        return made + end


Given = Quantized | Tensor | tuple[int, ...] | float | None  # an int is a float to a reader of types
Givens = Mapping[str, Given]


def evaluate(expression: str, names: Mapping[str, object], *, prelude: str = "") -> Tensor:
    """The value of an expression on torch, these names, and what a prelude defines.

    What is run is what a script prints, so that neither can be right while the other is wrong.
    """
    result = eval(expression, {**_defined(prelude), **names})  # noqa: S307 - our own text
    if not isinstance(result, Tensor):
        raise TypeError(f"{expression} gives no tensor")
    return result


@cache
def _defined(prelude: str) -> dict[str, object]:
    names: dict[str, object] = {"torch": torch}
    exec(prelude, names)  # noqa: S102 - our own text
    return names


def is_whole(given: Tensor) -> bool:
    """Whether a tensor is of integers or truths, which the formula takes as they are."""
    return not given.is_floating_point()


def tensors(givens: Givens) -> dict[str, object]:
    """The names that torch's kernel is called with."""
    return {
        name: evaluate(given.source, {"codes": given.codes}) if isinstance(given, Quantized) else given
        for name, given in givens.items()
    }


def reals(givens: Givens) -> dict[str, object]:
    """The names of the float64 formula: each tensor's real values under its name and `_real`.

    Tensors of indices and truths keep their names, as numbers do.
    """
    found: dict[str, object] = {}
    for name, given in givens.items():
        if isinstance(given, Quantized):
            found[f"{name}_real"] = given.centred.double() * given.scales
        elif isinstance(given, Tensor) and not is_whole(given):
            found[f"{name}_real"] = given.double()
        elif given is None:
            found[f"{name}_real"] = None
        else:
            found[name] = given
    return found
