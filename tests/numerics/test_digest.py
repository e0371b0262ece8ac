import pytest
import torch

from noisefloor_workers.numerics.compare import compare

FAR, NEAR = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.5])


def digest(actual: object, ref: object = None) -> str | None:
    """The pooled digest, against the actual output itself where no reference is given."""
    return compare(edge="float32->true", ref=actual if ref is None else ref, actual=actual)[0].output_digest


def test_the_digest_is_of_the_actual_output_alone() -> None:
    assert digest(NEAR, ref=FAR) == digest(NEAR)
    assert digest(NEAR, ref=torch.ones(9)) == digest(NEAR)
    assert digest(NEAR, ref=(FAR,)) == digest(NEAR)


def test_the_digest_is_pinned() -> None:
    assert digest(torch.tensor([1.0, 2.0])) == "49fc73a0bcf1444ae204c1883cad1886"
    assert digest({"a": torch.tensor(1, dtype=torch.int16)}) == "2a9d87d6abece57b4fc93bcb2684c613"


def test_the_digest_ignores_strides_and_gradients() -> None:
    matrix = torch.arange(6.0).reshape(2, 3)
    assert digest(matrix.t()) == digest(matrix.t().contiguous().requires_grad_())


@pytest.mark.parametrize(
    "other",
    [
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([0.0, 1.0]).double(),
        torch.tensor([-0.0, 1.0]),
        torch.tensor([0.0, 1.0]).view(torch.int32),
        (torch.tensor([0.0, 1.0]),),
        torch.tensor([0.0, 1.0, 0.0]),
    ],
)
def test_shape_dtype_path_and_every_bit_enter_the_digest(other: object) -> None:
    assert digest(torch.tensor([0.0, 1.0])) != digest(other)


def test_the_pooled_digest_covers_every_leaf() -> None:
    assert len({digest((FAR, NEAR)), digest((NEAR, FAR)), digest((FAR, FAR)), digest((FAR,))}) == 4
    assert digest((FAR, "cat")) != digest((FAR, "dog"))
