"""Generated inputs: which seed each stage draws from, and what is drawn."""

import ctypes
import hashlib

import torch

from noisefloor.contract.subject import Inputs, Seeds, Stage, TensorSpec
from noisefloor_workers.subjects.errors import NonfiniteInputsError
from noisefloor_workers.subjects.inputs import ModelInputs

DIGEST_BYTES = 16


def enter_stage(seeds: Seeds, stage: Stage) -> None:
    """Seed the global generator for a stage: its own seed, or the stream's where the stage is the first.

    The global generator is used, not one of our own, because modules draw their weights from it.
    """
    if seeds.stream is None:
        torch.manual_seed(getattr(seeds, stage))
    elif stage == seeds.order[0]:
        torch.manual_seed(seeds.stream)


def draw(inputs: Inputs, stage: Stage) -> ModelInputs:
    """Draw the tensors in turn from the global generator, positional ones first."""
    drawn = [_draw(spec, stage) for spec in inputs.tensors]
    positional = len(drawn) - len(inputs.kwargs)
    return ModelInputs(
        args=tuple(drawn[:positional]), kwargs=dict(zip(inputs.kwargs, drawn[positional:], strict=True))
    )


def _draw(spec: TensorSpec, stage: Stage) -> torch.Tensor:
    """Draw a float32 tensor, or int64 where the distribution is of integers.

    Uniform is `rand·(high - low) + low`; normal has mean `low` and standard deviation `high - low`. The
    unit forms skip the arithmetic, so that they are the generator's own bits.
    """
    if spec.distribution == "integers":
        return torch.randint(int(spec.low), int(spec.high), spec.shape, dtype=torch.int64)
    source = torch.rand if spec.distribution == "uniform" else torch.randn
    drawn = source(spec.shape, dtype=torch.float32)
    if (spec.low, spec.high) != (0.0, 1.0):
        drawn = drawn.mul_(spec.high - spec.low).add_(spec.low)
    if not torch.isfinite(drawn).all():
        raise NonfiniteInputsError(
            f"{stage} data hold NaN or infinity: low {spec.low}, high {spec.high} leave float32's range"
        )
    return drawn


def digest(*tensors: torch.Tensor, also: str = "") -> str:
    """blake2b over the tensors' bytes in turn, and a text behind them, as 32 hexadecimal digits."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for tensor in tensors:
        solid = tensor.contiguous()
        # read in place, and without numpy, which torch does not need and may not have
        hasher.update((ctypes.c_char * solid.nbytes).from_address(solid.data_ptr()))
    hasher.update(also.encode())
    return hasher.hexdigest()
