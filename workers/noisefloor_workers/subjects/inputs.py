"""What a model is called with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.fx import GraphModule

from noisefloor.contract.lane import Device


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """Positional and keyword tensors, each with the batch in its first dimension."""

    args: tuple[torch.Tensor, ...] = ()
    kwargs: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """The tensors, positional ones first."""
        yield from self.args
        yield from self.kwargs.values()

    @property
    def batch(self) -> int:
        """The number of samples."""
        return len(next(iter(self)))

    def fed_to(self, model: nn.Module) -> object:
        """The model's output on a copy of the inputs: a model may work on its input in place."""
        copied = self.copied()
        return model(*copied.args, **copied.kwargs)

    def in_order(self, graph: GraphModule) -> tuple[object, ...]:
        """A copy, in the order of a graph's placeholders; what is not given has the placeholder's default."""
        copied = self.copied()
        positional = list(copied.args)
        found: list[object] = []
        for node in graph.graph.find_nodes(op="placeholder"):
            name = str(node.target)
            if name in copied.kwargs:
                found.append(copied.kwargs[name])
            else:
                found.append(positional.pop(0) if positional else node.args[0])
        return tuple(found)

    def copied(self) -> "ModelInputs":
        return self._each(torch.clone)

    def on(self, device: Device) -> "ModelInputs":
        return self._each(lambda tensor: tensor.to(device))

    def to(self, dtype: torch.dtype) -> "ModelInputs":
        """In another precision; integers stay what they are."""
        return self._each(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def _each(self, changed: Callable[[torch.Tensor], torch.Tensor]) -> "ModelInputs":
        return ModelInputs(
            args=tuple(changed(tensor) for tensor in self.args),
            kwargs={name: changed(tensor) for name, tensor in self.kwargs.items()},
        )
