"""Bisecting: the first of an ordered run of steps that is bad. Pure but for the probe that it is given."""

from collections.abc import Callable

from noisefloor.contract.base import Value

Probe = Callable[[int], bool | None]
"""Whether a step is bad; None where it cannot be told."""


class Bisected(Value):
    """The first bad step, or, where steps beside it could not be told, those that may be the first."""

    candidates: tuple[int, ...]
    told: dict[int, bool | None]

    @property
    def first_bad(self) -> int | None:
        return self.candidates[0] if len(self.candidates) == 1 else None


def bisect(steps: int, is_bad: Probe) -> Bisected:
    """Find the first bad of steps 1 … `steps`, where step 0 is known to be good and the last to be bad.

    About log2(steps) probes; each that cannot be told costs one more.

    >>> bisect(10, lambda step: step >= 7).candidates
    (7,)
    >>> bisect(4, lambda step: None if step == 2 else step >= 3).candidates
    (2, 3)
    """
    told: dict[int, bool | None] = {}
    good, bad = 0, steps
    while open_steps := [step for step in range(good + 1, bad) if step not in told]:
        middle = (good + bad) / 2
        step = min(open_steps, key=lambda one: (abs(one - middle), one))
        told[step] = is_bad(step)
        if told[step] is True:
            bad = step
        elif told[step] is False:
            good = step
    return Bisected(candidates=tuple(range(good + 1, bad + 1)), told=told)
