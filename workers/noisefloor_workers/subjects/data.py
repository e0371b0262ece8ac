"""Generated inputs: which seed each stage draws from, and what is drawn."""

import ctypes
import hashlib

import torch

from noisefloor.contract.subject import Inputs, Seeds, Stage
from noisefloor_workers.subjects.errors import NonfiniteInputsError

DIGEST_BYTES = 16


def enter_stage(seeds: Seeds, stage: Stage) -> None:
    """Seed the global generator for a stage: its own seed, or the stream's where the stage is the first.

    The global generator is used, not one of our own, because modules draw their weights from it.
    """
    if seeds.stream is None:
        torch.manual_seed(getattr(seeds, stage))
    elif stage == seeds.order[0]:
        torch.manual_seed(seeds.stream)


def draw(inputs: Inputs, stage: Stage) -> torch.Tensor:
    """Draw a float32 tensor from the global generator.

    Uniform is `rand·(high - low) + low`; normal has mean `low` and standard deviation `high - low`. The
    unit forms skip the arithmetic, so that they are the generator's own bits.
    """
    source = torch.rand if inputs.distribution == "uniform" else torch.randn
    drawn = source(inputs.shape, dtype=torch.float32)
    if (inputs.low, inputs.high) != (0.0, 1.0):
        drawn = drawn.mul_(inputs.high - inputs.low).add_(inputs.low)
    if not torch.isfinite(drawn).all():
        raise NonfiniteInputsError(
            f"{stage} data hold NaN or infinity: low {inputs.low}, high {inputs.high} leave float32's range"
        )
    return drawn


def digest(*tensors: torch.Tensor) -> str:
    """blake2b over the tensors' bytes in turn, as 32 hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for tensor in tensors:
        solid = tensor.contiguous()
        # read in place, and without numpy, which torch does not need and may not have
        hasher.update((ctypes.c_char * solid.nbytes).from_address(solid.data_ptr()))
    return hasher.hexdigest()
