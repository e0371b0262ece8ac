"""Change points of a line: the E-divisive method with a t-test, on sliding windows. docs/decisions/0014.

Matteson and James, "A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data",
arXiv:1306.4933, choose the candidate; Fleming et al., "Hunter: Using Change Point Detection to Hunt for
Performance Regressions", doi:10.1145/3578244.3583719, add the windows, the t-test and the merging. They are
those of Apache Otava 0.8.0, but for the least step: that is in the metric's unit, never a share of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW = 50
MAX_P_VALUE = 0.001
WEAK = (
    10  # times as large a p-value makes a candidate; what is left after merging is held to the limit itself
)
LEAST_STEP = 0.05  # dB: below what anybody acts on


@dataclass(frozen=True, kw_only=True)
class Split:
    """Two neighbouring levels: `index` is the first of the second one."""

    index: int
    mean_before: float
    mean_after: float
    p_value: float

    @property
    def step(self) -> float:
        return abs(self.mean_after - self.mean_before)


def change_points(values: Sequence[float], *, least_step: float = LEAST_STEP) -> list[Split]:
    """Where the level of `values` changes, by more than `least_step` and with p < 0.001. Deterministic.

    O(n·window). Raises nothing for values within ±1e100; fewer than three have no change point.

    >>> [split.index for split in change_points([41.5] * 12 + [38.3] * 8)]
    [12]
    """
    found: list[int] = []
    start = 0
    while start < len(values):
        window = values[start : start + WINDOW]
        inside = [start + index for index in _divide(window)] if _range(window) > least_step else []
        found += [index for index in inside if index not in found]
        start = max(inside[-1] if inside else 0, start + WINDOW // 2)
    return _merged(values, sorted(found), least_step)


def _divide(window: Sequence[float]) -> list[int]:
    """Split a window at its best candidate as long as that is significant."""
    within = _distances(window)
    cuts: list[int] = []
    while True:
        ends = list(zip([0, *cuts], [*cuts, len(window)], strict=True))
        found = [(*_candidate(within, start, end), start, end) for start, end in ends if end - start > 1]
        if not found:
            return cuts
        _, index, start, end = max(found, key=lambda candidate: candidate[0])
        if compared(window, start, index, end).p_value > MAX_P_VALUE * WEAK:
            return cuts
        cuts = sorted([*cuts, index])


def _distances(window: Sequence[float]) -> list[list[float]]:
    """`sums[k][i]`: the sum of |x_j - x_k| over j < i."""
    sums = []
    for value in window:
        total, column = 0.0, [0.0]
        for other in window:
            total += abs(other - value)
            column.append(total)
        sums.append(column)
    return sums


def _candidate(sums: Sequence[Sequence[float]], start: int, end: int) -> tuple[float, int]:
    """The largest Q of a split of [start, end), and where its right part begins.

    With X of n values before the split, and Y of m values after it (Y may end before `end`):
    Q = 2/(m+n) · Σ|x_i - y_j| - 2m/((m+n)(n-1)) · Σ_{i<k}|x_i - x_k| - 2n/((m+n)(m-1)) · Σ_{j<k}|y_j - y_k|.
    """
    best, best_index = -math.inf, start + 1
    inside_left = 0.0
    for split in range(start + 1, end):
        inside_left += sums[split - 1][split - 1] - sums[split - 1][start]
        n, across, inside_right = split - start, 0.0, 0.0
        left = inside_left / (n - 1) if n > 1 else 0.0
        for last in range(split, end):
            column = sums[last]
            across += column[split] - column[start]
            inside_right += column[last] - column[split]
            m = last - split + 1
            right = inside_right / (m - 1) if m > 1 else 0.0
            q = 2 / (m + n) * (across - m * left - n * right)
            if q > best:
                best, best_index = q, split
    return best, best_index


def _merged(values: Sequence[float], found: Sequence[int], least_step: float) -> list[Split]:
    """Drop the weakest change point until all that are left are strong; neighbours then compare anew."""
    indices = list(found)
    while indices:
        ends = zip([0, *indices], indices, [*indices[1:], len(values)], strict=False)
        splits = [compared(values, start, index, end) for start, index, end in ends]
        weakest = max(splits, key=lambda split: split.p_value)
        if weakest.p_value < MAX_P_VALUE:
            weakest = min(splits, key=lambda split: split.step)
            if weakest.step > least_step:
                return splits
        indices.remove(weakest.index)
    return []


def compared(values: Sequence[float], start: int, index: int, end: int) -> Split:
    """Values in [start, index) against those in [index, end): Student's t-test, two-sided, one variance.

    Deviations are those of the population, as Otava takes them. Where nothing varies, any step is certain.
    """
    origin = values[start]  # a level that does not move has a deviation of exactly zero
    left = [value - origin for value in values[start:index]]
    right = [value - origin for value in values[index:end]]
    n, m = len(left), len(right)
    mean_left, mean_right = math.fsum(left) / n, math.fsum(right) / m
    freedom = n + m - 2
    p_value = 1.0
    if freedom > 0 and mean_left != mean_right:
        pooled = ((n - 1) * _variance(left, mean_left) + (m - 1) * _variance(right, mean_right)) / freedom
        scale = math.sqrt(pooled * (1 / n + 1 / m))
        p_value = t_test_p(abs(mean_left - mean_right) / scale, freedom) if scale else 0.0
    return Split(index=index, mean_before=mean_left + origin, mean_after=mean_right + origin, p_value=p_value)


def _variance(values: Sequence[float], mean: float) -> float:
    return math.fsum((value - mean) ** 2 for value in values) / len(values)


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)


def t_test_p(t: float, freedom: int) -> float:
    """P(|T| > t) of Student's t: the regularized incomplete beta function I_x(f/2, 1/2) at x = f/(f+t²).

    Abramowitz and Stegun 26.7.3 and 26.7.4: finite sums of cosines for f degrees of freedom, a whole number.

    >>> round(t_test_p(2.228, 10), 4)
    0.05
    """
    theta = math.atan2(t, math.sqrt(freedom))
    cos_sq = math.cos(theta) ** 2
    odd = freedom % 2
    term = math.cos(theta) if odd else 1.0
    terms = [term] if freedom > 1 else []
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cos_sq * (k - 1) / k
        terms.append(term)
    area = math.sin(theta) * math.fsum(terms)
    return max(0.0, 1.0 - (2 / math.pi * (theta + area) if odd else area))
