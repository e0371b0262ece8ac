"""Models for the edges of `torch.export` and of PT2E."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def mlp() -> nn.Module:
    """16-32-8, with layers named `first` and `last`."""
    model = nn.Sequential()
    model.add_module("first", nn.Linear(16, 32))
    model.add_module("act", nn.ReLU())
    model.add_module("last", nn.Linear(32, 8))
    return model


class ConvBn(nn.Module):
    """Convolution, batch norm with statistics of its own, dropout, linear: [n,3,8,8] → [n,5]."""

    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4, eps=epsilon)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4, 5)
        with torch.no_grad():
            self.bn.running_mean.uniform_(-0.1, 0.1)
            self.bn.running_var.uniform_(0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        return self.fc(self.drop(x.mean((2, 3))))


class Keywords(nn.Module):
    """An input by position and one by name; a dictionary of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.fc(x)
        return {"scaled": y * scale, "plain": y}


class Tokens(nn.Module):
    """An embedding and a linear layer on three dimensions: [n,5] of ids → [n,5,4]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 16)
        self.fc = nn.Linear(16, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.fc(self.table(ids))


class Constant(nn.Module):
    """A constant that quantization has nothing to do with."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.dont_fold_me = nn.Parameter(torch.randn(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.dont_fold_me.t().sum()


class Shapes(nn.Module):
    """Every operation that the quantizer `spec` knows: [n,3,8,8] → [n,8]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(72, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.conv(x))
        y = functional.max_pool2d(torch.cat([y, y + y], 1), 2)
        return torch.tanh(torch.sigmoid(self.fc(y.flatten(1)))).softmax(1)


class Normed(nn.Module):
    """A batch norm that belongs to no layer, dropout, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.bn(x)))


class Affine(nn.Module):
    """A linear layer behind x + x, x / 2 and x + 3."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc((x + x) / 2 + 3)


class Twice(nn.Module):
    """A convolution whose output two others take."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return y, y + 1


def exported() -> nn.Module:
    """A graph that torch.export made of `ConvBn` in training, and that may be told to stop."""
    from torchao.quantization import pt2e

    rows = {0: torch.export.Dim.AUTO}
    program = torch.export.export(ConvBn().train(), (torch.rand(4, 3, 8, 8),), dynamic_shapes=(rows,))
    return pt2e.allow_exported_model_train_eval(program.module())


class Branching(nn.Module):
    """Goes one of two ways by its data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class Looping(nn.Module):
    """Goes round as many times as it has rows: its graph is of one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(len(x)):
            x = x * 1.01
        return self.fc(x)


class Empty(nn.Module):
    """Calls its last layer with no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 8)
        self.last = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.first(x)
        return x, self.last(x[:0] + 1)
