"""Integers and scales for a case, drawn from its seed."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from noisefloor.contract.conformance import Case, Values

# Seven bits of mantissa: a product of two scales and an accumulator is exact in float64, and a bias of a
# thousand steps in float32.
MANTISSA = 128
BIAS_STEPS = 512
TIE_STEPS = 64
ACTIVATIONS: dict[Values, int] = {"seven_bit": 127, "ties": 127, "full": 255, "extreme": 255}
# what of the range of codes the results fill, so that some are clamped
FILL = 150.0


class Draw:
    """A case's source of numbers, in the order in which they are asked for."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._generator = torch.Generator().manual_seed(case.seed)

    def integer(self, low: int, high: int) -> int:
        """One integer from low to high, both included."""
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def integers(self, low: int, high: int, shape: Sequence[int]) -> Tensor:
        """Integers from low to high, both included; int64."""
        return torch.randint(low, high + 1, tuple(shape), generator=self._generator)

    def activations(self, shape: Sequence[int]) -> Tensor:
        """Codes from 0 to what the case's values have for a highest; extreme ones are mostly high."""
        high = ACTIVATIONS[self.case.values]
        if self.case.values == "extreme":
            return self.integers(0, 3, shape).clamp(max=1) * high
        return self.integers(0, high, shape)

    def weights(self, shape: Sequence[int]) -> Tensor:
        """Codes from -128 to 127; extreme ones are mostly 127.

        Where ties are wanted they have few bits, so that few are left below half a step.
        """
        if self.case.values == "extreme":
            return self.integers(0, 3, shape).clamp(max=1) * 255 - 128
        if self.case.values == "ties":
            return self.integers(-2, 1, shape) * TIE_STEPS
        return self.integers(-128, 127, shape)

    def bias_steps(self, channels: int) -> Tensor:
        """Steps of the accumulator, int64 [channels]."""
        coarse = TIE_STEPS if self.case.values == "ties" else 1
        return self.integers(-BIAS_STEPS // coarse, BIAS_STEPS // coarse, (channels,)) * coarse

    def zero_point(self) -> int:
        """An end of the range of activations as often as something between."""
        high = ACTIVATIONS[self.case.values]
        return (0, high, self.integer(1, high - 1), self.integer(1, high - 1))[self.integer(0, 3)]

    def scale(self) -> float:
        """A scale below one; a power of two where ties are wanted."""
        mantissa = self.integer(MANTISSA // 2, MANTISSA - 1)
        exponent = self.integer(4, 6)
        return 2.0**-exponent if self.case.values == "ties" else math.ldexp(mantissa / MANTISSA, -exponent)

    def output_scale(self, real: Tensor) -> float:
        """A scale under which these real results fill the range of codes and a little more."""
        largest = float(real.abs().max()) if real.numel() else 0.0
        mantissa, exponent = math.frexp((largest or 1.0) / FILL)
        if self.case.values == "ties":
            return math.ldexp(1.0, exponent)
        return math.ldexp(math.ceil(mantissa * MANTISSA) / MANTISSA, exponent)
