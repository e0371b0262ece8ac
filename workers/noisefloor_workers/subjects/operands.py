"""What an operator is called with: drawn from one seed, so that it can be drawn again."""

import dataclasses
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from noisefloor.contract.benchmark import Operator, ZeroPointDtype
from noisefloor_workers.numerics.affine import codes

ZERO_POINT_DTYPES: dict[ZeroPointDtype, torch.dtype] = {
    "int32": torch.int32,
    "float32": torch.float32,
    "float16": torch.float16,
}
BEYOND = 8  # an eighth of the range lies beyond either end
TIES_WITHIN = 2**20  # float32 holds the halves up to 2^23; a channel's zero point is added
# Kinds of elements, drawn with equal chance
KINDS, TIE, NEIGHBOUR = 4, 2, 3


@dataclass(frozen=True, kw_only=True)
class Operands:
    """An input, its quantization parameters, and the gradient that comes back to the output.

    `x` and `upstream` float32, of the operator's shape; `scale` float32 and `zero_point`, as the operator
    stores it, of shape (channels,).
    """

    x: Tensor
    upstream: Tensor
    scale: Tensor
    zero_point: Tensor
    axis: int | None
    low: int
    high: int

    def along_axis(self, each: Tensor) -> Tensor:
        """One value a channel, as it broadcasts to the input; a single one stays as it is."""
        shape = [1] * self.x.dim()
        if self.axis is not None:
            shape[self.axis] = len(each)
        return each.reshape(shape)

    @property
    def qparams(self) -> dict[str, Tensor]:
        """Scale and zero point, as they broadcast to the input."""
        return {"scale": self.along_axis(self.scale), "zero_point": self.along_axis(self.zero_point)}

    @property
    def codes(self) -> Tensor:
        """The input's codes by the formula; float64."""
        return codes(self.x, **self.qparams).clamp_(self.low, self.high)

    def to(self, device: str) -> "Operands":
        """On another device."""
        return dataclasses.replace(
            self,
            x=self.x.to(device),
            upstream=self.upstream.to(device),
            scale=self.scale.to(device),
            zero_point=self.zero_point.to(device),
        )


def operands(operator: Operator, seed: int) -> Operands:
    """Draw an operator's input and upstream gradient, on the CPU.

    `unit`: the input is uniform in [0, 1) and the gradient one, as in torch's own benchmark. `ties`: half of
    the elements are spread evenly over the codes and an eighth of their range beyond either end; a quarter
    lies on the ties between codes, clamp bounds included, and a quarter is the next float32 beside a tie. The
    gradient is normal.
    """
    generator = torch.Generator().manual_seed(seed)
    low, high = operator.code_range
    scale = torch.tensor(list(islice(cycle(operator.scales), operator.channels)), dtype=torch.float32)
    zero_points = torch.tensor(list(islice(cycle(operator.zero_points), operator.channels)))
    found = Operands(
        x=torch.rand(operator.shape, generator=generator),
        upstream=torch.ones(operator.shape),
        scale=scale,
        zero_point=zero_points.to(ZERO_POINT_DTYPES[operator.stored_zero_point]),
        axis=operator.axis,
        low=low,
        high=high,
    )
    if operator.values == "unit":
        return found
    upstream = torch.randn(operator.shape, generator=generator)
    return dataclasses.replace(found, x=_hard(found, generator), upstream=upstream)


def _hard(drawn: Operands, generator: torch.Generator) -> Tensor:
    """From uniform numbers to the values described above; float32."""
    qparams = drawn.qparams
    beyond = (drawn.high - drawn.low) // BEYOND + 1
    first, last = drawn.low - beyond, drawn.high + beyond
    even = first + drawn.x.double() * (last - first)
    first, last = max(first, -TIES_WITHIN), min(last, TIES_WITHIN)
    tie = (first + drawn.x.double() * (last - first)).floor() + 0.5
    kind = torch.randint(KINDS, drawn.x.shape, generator=generator)
    x = ((torch.where(kind < TIE, even, tie) - qparams["zero_point"]) * qparams["scale"]).float()
    side = torch.where(torch.rand(x.shape, generator=generator) < 1 / 2, -torch.inf, torch.inf)
    return torch.where(kind == NEIGHBOUR, x.nextafter(side), x)
