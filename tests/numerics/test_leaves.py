import dataclasses
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from noisefloor_workers.numerics.leaves import LeafPair, Opaque, StructureMismatch, leaves, pairs


@dataclasses.dataclass
class Heads:
    hidden: Tensor
    extra: Any = None


@dataclasses.dataclass
class DictLike(OrderedDict[str, Any]):
    """Both a dict and a dataclass, as transformers' ModelOutput is."""

    logits: Tensor | None = None

    def __post_init__(self) -> None:
        if self.logits is not None:
            self["logits"] = self.logits


class Unwalkable:
    pass


class Registered:
    def __init__(self, *parts: Tensor) -> None:
        self.parts = parts


pytree.register_pytree_node(
    Registered,
    lambda node: (list(node.parts), None),
    lambda parts, _: Registered(*parts),
    serialized_type_name="tests.numerics.Registered",
)


class Boxes(NamedTuple):
    xy: Tensor
    score: Tensor


X, Y = torch.ones(2), torch.zeros(3)


def places(output: object) -> list[str]:
    found = pairs(ref=output, actual=output)
    assert isinstance(found, list)
    return [pair.place for pair in found]


def note(ref: object, actual: object) -> str:
    found = pairs(ref=ref, actual=actual)
    assert isinstance(found, StructureMismatch)
    return found.note


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (X, ["output"]),
        ((X, Y), ["output[0]", "output[1]"]),
        ([X], ["output[0]"]),
        ({"logits": X, 3: Y}, ["output['logits']", "output[3]"]),
        (OrderedDict(b=X, a=Y), ["output['b']", "output['a']"]),
        (Boxes(X, Y), ["output.xy", "output.score"]),
        (Heads(X, Y), ["output.hidden", "output.extra"]),
        (DictLike(X), ["output['logits']"]),
        (Registered(X, Y), ["output[0]", "output[1]"]),
        (torch.Size([2, 3]), ["output[0]", "output[1]"]),
        ((Heads(X, {"a": [Y, Heads(X)]}),), [
            "output[0].hidden", "output[0].extra['a'][0]", "output[0].extra['a'][1].hidden",
        ]),
        ((), []),
        ({}, []),
        (None, []),
        ("text", []),
    ],
)  # fmt: skip
def test_every_leaf_is_named_by_its_path(output: object, expected: list[str]) -> None:
    assert places(output) == expected


def test_leaves_are_paired_by_path_and_not_by_order() -> None:
    found = pairs(ref={"a": X, "b": Y}, actual={"b": Y + 1, "a": X + 1})
    assert isinstance(found, list)
    assert [pair.place for pair in found] == ["output['a']", "output['b']"]
    for pair in found:
        assert isinstance(pair.ref, Tensor)
        assert isinstance(pair.actual, Tensor)
        assert torch.equal(pair.ref + 1, pair.actual)


@pytest.mark.parametrize(
    ("number", "dtype"),
    [(True, torch.bool), (3, torch.int64), (0.1, torch.float64), (1j, torch.complex128)],
)
def test_a_python_number_becomes_a_scalar_tensor(number: complex, dtype: torch.dtype) -> None:
    [(place, leaf)] = leaves(number)
    assert place == "output"
    assert isinstance(leaf, Tensor)
    assert (leaf.dtype, leaf.shape, leaf.item()) == (dtype, (), number)


def test_an_integer_too_wide_for_a_tensor_is_compared_whole() -> None:
    assert pairs(ref=2**70, actual=2**70) == []
    assert note(2**70, 2**70 + 1) == f"output is '{2**70}' in ref, '{2**70 + 1}' in actual"


@pytest.mark.parametrize(
    ("ref", "actual", "expected"),
    [
        ((X, Y), (X,), "output[1] is a Tensor in ref, missing in actual"),
        ((X,), (X, Y), "output[1] is missing in ref, a Tensor in actual"),
        ((X,), [X], "output is a tuple in ref, a list in actual"),
        (X, (X,), "output is a Tensor in ref, a tuple in actual"),
        ({"a": X}, {"b": X}, "output['a'] is a Tensor in ref, missing in actual"),
        ((), [], "output is a tuple in ref, a list in actual"),
        ((X, None), (X, Y), "output[1] is None in ref, a Tensor in actual"),
        ((X, "cat"), (X, "dog"), "output[1] is 'cat' in ref, 'dog' in actual"),
        (
            "a" * 90 + "b" + "a" * 90,
            "a" * 90 + "c" + "a" * 90,
            "output is another text in ref than in actual",
        ),
    ],
)
def test_a_structure_that_differs_says_where(ref: object, actual: object, expected: str) -> None:
    assert note(ref, actual) == expected


def test_dataclasses_of_different_types_differ() -> None:
    @dataclasses.dataclass
    class Other:
        hidden: Tensor
        extra: Any = None

    assert "Heads in ref" in note(Heads(X), Other(X))


def test_equal_text_and_none_give_no_pair() -> None:
    assert places({"label": "cat", "cache": None, "x": X}) == ["output['x']"]


def test_what_cannot_be_walked_stays_as_an_opaque_pair() -> None:
    [pair] = pairs(ref=(Unwalkable(),), actual=(Unwalkable(),))
    assert isinstance(pair, LeafPair)
    assert isinstance(pair.ref, Opaque)
    assert pair.ref.type_name.endswith("Unwalkable")
    assert "Unwalkable in ref, a Tensor in actual" in note((Unwalkable(),), (X,))
