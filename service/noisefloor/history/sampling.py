"""Fewer points of a line that still show where it was lowest, highest, and marked."""

from collections.abc import Iterable, Sequence


def sampled(values: Sequence[float | None], markers: Iterable[int], *, most: int) -> list[int]:
    """Indices to keep of a line, in order: all of them where there are no more than `most`.

    Otherwise the first, the last and every marker are kept, and what is left of `most` goes to buckets of
    equal width, each of which keeps its lowest and its highest value; there is at least one, so those of the
    line are always kept. At most max(most, markers + 4) indices. None is no number. O(n).

    >>> sampled([5.0, 5.0, 1.0, 5.0, 9.0, 5.0, 5.0, 5.0], [6], most=5)
    [0, 2, 4, 6, 7]
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    kept = {0, count - 1, *markers}
    buckets = max(1, (most - len(kept)) // 2)
    for number in range(buckets):
        bucket = range(number * count // buckets, (number + 1) * count // buckets)
        numbers = [(value, index) for index in bucket if (value := values[index]) is not None]
        if numbers:
            kept |= {min(numbers)[1], max(numbers)[1]}
    return sorted(kept)
