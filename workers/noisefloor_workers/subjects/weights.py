"""A state dict from a file, in the place of weights that were drawn."""

from collections.abc import Mapping

import torch
from torch import nn

from noisefloor_workers.subjects.errors import SubjectError

SHOWN = 5
Place = tuple[object, ...]


def put(model: nn.Module, given: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict strictly: each tensor of the model, in its shape, and no other.

    Tied weights may be given once, under any of their names, as files hold them. Floating point is cast to
    the model's; anything else must have the model's dtype. Extra state that is no tensor stays as it is.
    Raises SubjectError naming the first few tensors that do not fit.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    places: dict[Place, str] = {}
    differing, unlike = [], []
    for name in (name for name in given if name in own):
        twin = places.setdefault(_place(own[name]), name)
        if not _fits(own[name], given[name]):
            differing.append(f"{name}: {_shown(given[name])}, the model has {_shown(own[name])}")
        elif twin != name and not torch.equal(given[twin], given[name]):
            unlike.append(f"{twin}, {name}")
    problems = {
        "not in the model": [name for name in given if name not in own],
        "not in the file": [
            name for name, value in own.items() if name not in given and _place(value) not in places
        ],
        "other shape or dtype": differing,
        "one tensor in the model and two in the file": unlike,
    }
    said = [f"{problem}: {_few(names)}" for problem, names in problems.items() if names]
    if said:
        raise SubjectError(f"the weights do not fit the model; {'; '.join(said)}")
    model.load_state_dict(given, strict=False)


def _place(tensor: torch.Tensor) -> Place:
    """Where its elements are: the same for tied weights."""
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _fits(own: torch.Tensor, given: torch.Tensor) -> bool:
    same = own.dtype == given.dtype or (own.is_floating_point() and given.is_floating_point())
    return same and own.shape == given.shape


def _shown(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
