"""From a case that fails to the smallest near it that still does. Pure."""

from collections.abc import Callable, Iterator

from noisefloor.contract.conformance import Case

SEEDS = 3
# a layer without channels is another question than one with few
MAY_BE_ZERO = frozenset({"padding", "output_padding"})
PLAINER = {"layout": "contiguous", "per_channel": False, "bias": False, "weight_zero_point": 0}


def shrink(case: Case, fails: Callable[[Case], bool], *, tries: int) -> Case:
    """The case made smaller, step by step, while it fails; `fails` is asked `tries` times at most."""
    while True:
        for smaller in _smaller(case):
            if tries <= 0:
                return case
            tries -= 1
            if fails(smaller):
                case = smaller
                break
        else:
            return case


def _smaller(case: Case) -> Iterator[Case]:
    """Plainer first, then each length at its least, halved, and one less; with the seed and a few others."""
    if case.values == "full":
        yield case.replace(values="extreme")  # what overflows does so in the fewest terms
    for field, plain in PLAINER.items():
        if getattr(case, field) != plain:
            yield case.replace(**{field: plain})
    for seed in dict.fromkeys((case.seed, *range(SEEDS))):
        for name, lengths in case.sizes.items():
            least = 0 if name in MAY_BE_ZERO else 1
            for place, length in enumerate(lengths):
                for less in dict.fromkeys((least, length // 2, length - 1)):
                    if least <= less < length:
                        sizes = {**case.sizes, name: (*lengths[:place], less, *lengths[place + 1 :])}
                        yield case.replace(sizes=sizes, seed=seed)
