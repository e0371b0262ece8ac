"""Models with several inputs, and outputs of several tensors."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.ao.nn.quantized import FloatFunctional


@dataclass
class Parts:
    joined: torch.Tensor
    left: torch.Tensor


class Joined(nn.Module):
    """[n,4] by position and [n,2] by name, concatenated and projected: two outputs in a container."""

    def __init__(self, container: str) -> None:
        super().__init__()
        self.cat = FloatFunctional()
        self.fc = nn.Linear(6, 3)
        self.alone = nn.Linear(4, 2)
        self.container = container

    def forward(self, left: torch.Tensor, *, right: torch.Tensor) -> object:
        joined, alone = self.fc(self.cat.cat([left, right], dim=1)), self.alone(left)
        if self.container == "dataclass":
            return Parts(joined, alone)
        return (joined, alone) if self.container == "tuple" else {"joined": joined, "left": alone}


class Tied(nn.Module):
    """Two layers with one weight, and an integer buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


def joined(container: str = "dict") -> nn.Module:
    return Joined(container)


def tied() -> nn.Module:
    return Tied()
