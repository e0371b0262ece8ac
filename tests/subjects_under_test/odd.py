"""Models that are hard to quantize, or whose figures mean something else than usual."""

import torch
from torch import nn


class Odd(nn.Module):
    """A linear layer named `fc`, and something odd after it, which `forward` of a subclass says."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)


class Branching(Odd):
    """Decides by its data which way to go."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) if x.sum() > 0 else self.fc(-x)


class Classes(Odd):
    """Gives class indices."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x).argmax(dim=1)


class Zeros(Odd):
    """Gives zeros, whatever it computed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) * 0.0


class Shifting(Odd):
    """Gives another structure when its layer was replaced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        found = self.fc(x)
        plain = type(self.fc) is nn.Linear and type(self.fc.weight) is nn.Parameter
        return found if plain else (found, found)


class Reading(Odd):
    """Asks its layer for the dtype of its weight, as models do that cast their inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.double() if self.fc.weight.dtype is torch.float64 else x)


class Lacking(Odd):
    """Asks a quantized tensor for what it does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.absent if x.is_quantized else x)


class Flipping(Odd):
    """Chooses another engine while it runs quantized."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_quantized:
            torch.backends.quantized.engine = "qnnpack"
        return self.fc(x)


class Unweighted(nn.Module):
    """Has nothing to quantize."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cos()


def branching() -> nn.Module:
    return Branching()


def classes() -> nn.Module:
    return Classes()


def zeros() -> nn.Module:
    return Zeros()


def shifting() -> nn.Module:
    return Shifting()


def reading() -> nn.Module:
    return nn.Sequential(Reading())


def lacking() -> nn.Module:
    return Lacking()


def flipping() -> nn.Module:
    return Flipping()


def unweighted() -> nn.Module:
    return Unweighted()


def not_a_number() -> nn.Module:
    model = Odd()
    with torch.no_grad():
        model.fc.weight[0, 0] = float("nan")
    return nn.Sequential(nn.Identity(), model.fc)


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU())
