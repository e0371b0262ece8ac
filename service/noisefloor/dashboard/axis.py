"""An axis with round ticks. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ROUND_STEPS = (1, 2, 5, 10)
SMALLEST_SPAN_DB = 1.0  # a line without any change is drawn flat, not as noise in the last digit
FINEST_SHARE = 1e-9  # of a value: nearer to one another, ticks would be one number in float64


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of values with ticks at round ones; `decimals` are what their labels need."""

    low: float
    high: float
    ticks: tuple[float, ...]
    decimals: int

    def share(self, value: float) -> float:
        """Where a value stands, from 0 at the low end to 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


def axis(values: Sequence[float], *, most_ticks: int = 6, smallest_span: float = SMALLEST_SPAN_DB) -> Axis:
    """The narrowest axis between two round ticks that holds all values. Raises `ValueError` for none.

    >>> axis([30.0, 41.5]).ticks
    (30.0, 32.0, 34.0, 36.0, 38.0, 40.0, 42.0)
    """
    low, high = min(values), max(values)
    smallest_span = max(smallest_span, FINEST_SHARE * max(abs(low), abs(high)))
    if high - low < smallest_span:
        middle = (low + high) / 2
        low, high = middle - smallest_span / 2, middle + smallest_span / 2
    step = _round_step((high - low) / most_ticks)
    first, last = math.floor(low / step), math.ceil(high / step)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(round(number * step, decimals) for number in range(first, last + 1))
    return Axis(low=ticks[0], high=ticks[-1], ticks=ticks, decimals=decimals)


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is no less than `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return power * next(step for step in ROUND_STEPS if step * power >= least)
