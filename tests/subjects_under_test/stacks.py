"""Well-behaved models for the edges of the instrument."""

import torch
from torch import nn


class Mixed(nn.Module):
    """A bare layer, and one that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


class Overwriting(nn.Module):
    """Works on its input in place, and gives out the same buffer at each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("out", torch.zeros(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.is_quantized:
            return self.fc(x)
        x.mul_(0.5)
        return self.out.copy_(self.fc(x)) if len(x) == len(self.out) else self.fc(x)


class Unsteady(nn.Module):
    """Gives another output at each pass, as a kernel with a race does, or on each number of threads."""

    def __init__(self, cause: str) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.cause = cause
        self.passes = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        number = self.passes if self.cause == "passes" else torch.get_num_threads()
        return self.fc(x) * (1 + 1e-3 * number)


def positive_stack() -> nn.Module:
    """512-512-10 with positive weights: long sums of large products, which saturate 16-bit accumulation."""
    stack = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 10))
    with torch.no_grad():
        for layer in stack:
            layer.weight.uniform_(0.0, 1.0)
            layer.bias.zero_()
    return stack


def linear(weight: float = 1.0) -> nn.Module:
    """A linear layer named `fc`, one of whose weights is given."""
    model = nn.Sequential()
    model.add_module("fc", nn.Linear(4, 4))
    with torch.no_grad():
        model.fc.weight[0, 0] = weight
    return model


def unsteady(cause: str) -> nn.Module:
    return Unsteady(cause)


class Single(nn.Module):
    """Adds a float32 constant in a way that double precision does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) @ torch.ones(4, 4)


def single() -> nn.Module:
    return Single()


class Residual(nn.Module):
    """Adds with the operator, which has no kernel for quantized tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + x


def residual() -> nn.Module:
    model = nn.Sequential()
    model.add_module("block", Residual())
    return model


def narrow() -> nn.Module:
    """Its layer takes fewer features than it is given."""
    body, model = nn.Sequential(), nn.Sequential()
    body.add_module("fc", nn.Linear(2, 2))
    model.add_module("body", body)
    return model


def embedded() -> nn.Module:
    """A table, looked up by rounding its input, before a linear layer."""

    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(8, 4)
            self.fc = nn.Linear(4, 4)

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.fc(self.table(numbers))

    return Lookup()


def mixed() -> nn.Module:
    return Mixed()


def overwriting() -> nn.Module:
    return Overwriting()


def drawing(stream_length: int = 1) -> nn.Module:
    """Draws from the generator while it is built."""
    torch.rand(stream_length)
    return nn.Linear(4, 4)


def not_a_model() -> object:
    return "a string"
