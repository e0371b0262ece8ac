"""The leaves of a model's output: tensors, named by their path."""

import dataclasses
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from noisefloor.contract.measurement import OUTPUT
from noisefloor_workers.numerics.comparable import plain

Path = tuple[Any, ...]
Child = tuple[Path, object]
Verbatim = str | bytes | None
# bool before int, which it is a kind of
NUMBER_DTYPES = (
    (bool, torch.bool),
    (int, torch.int64),
    (float, torch.float64),
    (complex, torch.complex128),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Opaque:
    """A leaf that is no tensor and no number: only its type is known."""

    type_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """An inner node of an output. Its type counts: a tuple is not a list."""

    type_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeafPair:
    """One leaf of the reference and its counterpart; `place` is `output` and the path to it."""

    place: str
    ref: Tensor | Opaque
    actual: Tensor | Opaque


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureMismatch:
    """Two outputs whose leaves cannot be paired, and why."""

    note: str


Leaf = Tensor | Opaque | Verbatim


def pairs(*, ref: object, actual: object) -> list[LeafPair] | StructureMismatch:
    """Pair the leaves of two model outputs, in the reference's order.

    Walked are tensors, and whatever torch's pytree knows (tuple, list, dict, named tuple, ...), and
    dataclasses and subclasses of dict, list and tuple that nobody registered there. A Python number
    becomes a 0-d tensor: bool, int64, float64 or complex128. None and text have to be equal, and give
    no pair. Dicts are paired by key, whatever their order. Shapes and dtypes are not looked at.
    Errors: none; the first place where the structures differ comes back as a `StructureMismatch`.

    >>> [pair.place for pair in pairs(ref={"a": (torch.ones(1),)}, actual={"a": (torch.ones(1),)})]
    ["output['a'][0]"]
    >>> pairs(ref=(1.0, 2.0), actual=(1.0,))
    StructureMismatch(note='output[1] is a Tensor in ref, missing in actual')
    """
    ref_nodes, actual_nodes = dict(_walk(ref, ())), dict(_walk(actual, ()))
    found = []
    for path in [*ref_nodes, *(path for path in actual_nodes if path not in ref_nodes)]:
        sides = [_describe(path, nodes) for nodes in (ref_nodes, actual_nodes)]
        if sides[0] != sides[1]:
            return StructureMismatch(note=f"{_place(path)} is {sides[0]} in ref, {sides[1]} in actual")
        ref_leaf, actual_leaf = ref_nodes[path], actual_nodes[path]
        if isinstance(ref_leaf, Tensor | Opaque) and isinstance(actual_leaf, Tensor | Opaque):
            found.append(LeafPair(place=_place(path), ref=ref_leaf, actual=actual_leaf))
        elif ref_leaf != actual_leaf:
            return StructureMismatch(note=f"{_place(path)} is another text in ref than in actual")
    return found


def leaves(output: object) -> list[tuple[str, Leaf]]:
    """The place and the value of every leaf of one output: tensors plain and on the CPU, see `plain`."""
    return [(_place(path), node) for path, node in _walk(output, ()) if not isinstance(node, Container)]


def _place(path: Path) -> str:
    return OUTPUT + pytree.keystr(path)


def _describe(path: Path, nodes: dict[Path, Leaf | Container]) -> str:
    if path not in nodes:
        return "missing"
    node = nodes[path]
    if isinstance(node, Opaque | Container):
        return f"a {node.type_name}"
    return "a Tensor" if isinstance(node, Tensor) else reprlib.repr(node)


def _walk(node: object, path: Path) -> Iterator[tuple[Path, Leaf | Container]]:
    """Every node under a node, itself first."""
    children = _children(node)
    if children is None:
        yield path, _leaf(node)
        return
    yield path, Container(type_name=_type_name(node))
    for tail, child in children:
        yield from _walk(child, (*path, *tail))


def _children(node: Any) -> list[Child] | None:
    """The nodes one level below, or None for a leaf."""
    if isinstance(node, Tensor | str | bytes):
        return None
    if not pytree.tree_is_leaf(node):
        return _registered_children(node)
    if isinstance(node, Mapping):  # before dataclasses: transformers' ModelOutput is both
        return [((pytree.MappingKey(key),), value) for key, value in node.items()]
    if isinstance(node, list | tuple):
        return [((pytree.SequenceKey(index),), value) for index, value in enumerate(node)]
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return [((pytree.GetAttrKey(f.name),), getattr(node, f.name)) for f in dataclasses.fields(node)]
    return None


def _registered_children(node: object) -> list[Child]:
    def is_below(candidate: object) -> bool:
        return candidate is not node

    try:
        return pytree.tree_flatten_with_path(node, is_leaf=is_below)[0]
    except ValueError:  # a type may be registered without names for its children
        values = pytree.tree_flatten(node, is_leaf=is_below)[0]
        return [((pytree.SequenceKey(index),), value) for index, value in enumerate(values)]


def _leaf(node: object) -> Leaf:
    if isinstance(node, Tensor):
        return plain(node)
    if isinstance(node, Verbatim):
        return node
    if isinstance(node, int) and not -(2**63) <= node < 2**63:
        return str(node)  # wider than any tensor: compared as text
    for number, dtype in NUMBER_DTYPES:
        if isinstance(node, number):
            return torch.tensor(node, dtype=dtype)
    return Opaque(type_name=_type_name(node))


def _type_name(node: object) -> str:
    kind = type(node)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
