"""The built-in subjects: the two small models whose figures every numerics script of the eager flow quotes.

Layers are created in the order of their first known publication, since the order decides which numbers
of the random stream each layer draws.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.nn import functional

from noisefloor.contract.subject import ZooName

CHANNELS = 3
FEATURES = 12
CLASSES = 6


class MultipleOps(nn.Module):
    """Convolution, batch norm, add, average and max pool, concatenation, linear: [n,3,h,w] → [n,6]."""

    fuse_groups = (("conv1", "bn1", "relu1"),)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, kernel_size=1, bias=False)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()
        self.downsample = nn.Identity()
        self.skip_add = FloatFunctional()
        self.cat = FloatFunctional()
        self.avgpool = nn.AdaptiveAvgPool2d(4)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.skip_add.add(out, self.downsample(x)))
        return _classify(self, self.avgpool(out))


class MultipleOpsNoAvgPool(nn.Module):
    """The same without averages, which fake quantization does not model exactly."""

    fuse_groups = (("conv1", "bn1", "relu1"),)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, kernel_size=1, bias=False)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()
        self.skip_add = FloatFunctional()
        self.cat = FloatFunctional()
        self.maxpool = nn.MaxPool2d(4)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.skip_add.add(out, self.conv2(x)))
        return _classify(self, self.maxpool(out))


def _classify(model: MultipleOps | MultipleOpsNoAvgPool, pooled: torch.Tensor) -> torch.Tensor:
    """The shared tail: convolve, pool, double the channels, and project to the classes."""
    out = functional.max_pool2d(model.conv2(pooled), 2, 2)
    out = model.cat.cat([out, out])
    logits: torch.Tensor = model.fc(out.reshape(-1, FEATURES))
    return logits


ZOO: dict[ZooName, Callable[..., nn.Module]] = {
    "multiple-ops": MultipleOps,
    "multiple-ops-no-avgpool": MultipleOpsNoAvgPool,
}
