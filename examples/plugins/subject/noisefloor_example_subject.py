"""A small image classifier of depthwise-separable convolutions, after MobileNet.

Depthwise weights have a range of their own in each channel: per tensor and per channel differ most here.
"""

from torch import Tensor, nn

IMAGE_CHANNELS = 3


class Separable(nn.Module):
    """Images (batch, 3, height, width) in float32 to logits (batch, classes)."""

    def __init__(self, channels: int = 16, blocks: int = 2, classes: int = 10) -> None:
        super().__init__()
        if min(channels, blocks, classes) < 1:
            raise ValueError(f"channels {channels}, blocks {blocks}, classes {classes}: each is at least 1")
        self.stem = nn.Conv2d(IMAGE_CHANNELS, channels, kernel_size=3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, channels)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(channels, classes)
        # what eager quantization fuses: the other flows find it in the graph
        fused = [(f"blocks.{n}.pointwise", f"blocks.{n}.norm", f"blocks.{n}.relu") for n in range(blocks)]
        self.fuse_groups = (*fused, ("head", "relu"))

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.blocks(self.stem(images))).flatten(1)
        logits: Tensor = self.fc(self.relu(self.head(features)))
        return logits


class Block(nn.Module):
    """A convolution of each channel on its own, then one over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.relu(self.norm(self.pointwise(self.depthwise(x))))
        return mixed
