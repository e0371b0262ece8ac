"""One pass of a model over its inputs."""

import copy

import torch
from torch import nn

from noisefloor_workers.subjects.inputs import ModelInputs

FORWARD_SEED = 0


def forward(model: nn.Module, inputs: ModelInputs) -> object:
    """One untapped pass, on a copy of the inputs and to a copy of the outputs.

    A model may work on its input in place, or give out a buffer that its next pass overwrites. The generator
    is set, so that a model that draws numbers gives the same ones whichever cells ran before.
    """
    torch.manual_seed(FORWARD_SEED)
    with torch.no_grad():
        output: object = inputs.fed_to(model)
        try:
            return copy.deepcopy(output)
        except (TypeError, RuntimeError, copy.Error):
            # an output that holds what cannot be copied can be compared nevertheless
            return output
