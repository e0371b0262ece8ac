"""The noise of a headline, split over the steps that lead to it."""

from itertools import pairwise

import pytest
import torch

from noisefloor.contract.budget import budgets
from noisefloor.contract.measurement import Measurement
from noisefloor.contract.scheme import Edge
from noisefloor.contract.sums import Sums
from noisefloor_workers.numerics.compare import compare

GENERATOR = torch.Generator().manual_seed(1)


def chain(scale: float = 1.0) -> tuple[dict[str, torch.Tensor], list[Measurement]]:
    """Four variants, each with more noise than the one before, and all their edges measured."""
    variants = {"float32": torch.randn(1000, generator=GENERATOR, dtype=torch.float64) * scale}
    for name, before, noise in (
        ("fake", "float32", 0.1),
        ("reference", "fake", 0.01),
        ("true", "reference", 0.05),
    ):
        drawn = torch.randn(1000, generator=GENERATOR, dtype=torch.float64)
        variants[name] = variants[before] + noise * scale * drawn
    edges: list[Edge] = ["float32->true", "fake->reference", "float32->fake", "reference->true"]
    measured = [
        compare(edge=edge, ref=variants[edge.split("->")[0]], actual=variants[edge.split("->")[1]])[0]
        for edge in edges
    ]
    return variants, measured


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_shares_and_cross_terms_are_the_energies_of_the_errors(scale: float) -> None:
    variants, measured = chain(scale)
    (found,) = budgets(measured)

    assert found.edge == "float32->true"
    assert [part.edge for part in found.parts] == ["float32->fake", "fake->reference", "reference->true"]
    names = ["float32", "fake", "reference", "true"]
    errors = [(variants[b] - variants[a]) / scale for a, b in pairwise(names)]
    total = float((sum(errors) ** 2).sum())
    for part, error in zip(found.parts, errors, strict=True):
        assert part.share == pytest.approx(float((error**2).sum()) / total, rel=1e-9)
    cross = sum(float((a * b).sum()) for a in errors for b in errors if a is not b)
    assert found.cross == pytest.approx(cross / total, rel=1e-6)


def test_there_is_no_budget_without_a_way_or_without_noise() -> None:
    _, measured = chain()
    assert budgets(measured[:1]) == ()
    assert budgets([measured[0], measured[2]]) == ()  # float32->fake leads nowhere
    exact = Measurement(edge="float32->true", figure=Sums(n=1).sqnr_db(), sums=Sums(n=1, ref_sq=1.0))
    assert budgets([exact, *measured[1:]]) == ()


def test_what_is_not_finite_has_no_budget() -> None:
    _, measured = chain()
    assert measured[0].sums is not None
    broken = measured[0].replace(sums=measured[0].sums.replace(nonfinite_actual=1))
    assert budgets([broken, *measured[1:]]) == ()


@pytest.mark.parametrize("exponent", [510, 600, 10**400])
def test_a_step_with_noise_beyond_all_floats_has_no_budget(exponent: int) -> None:
    _, measured = chain()
    assert measured[1].sums is not None
    far = measured[1].replace(sums=measured[1].sums.replace(err_sq=1e300, err_exp=exponent))
    assert budgets([measured[0], far, *measured[2:]]) == ()
