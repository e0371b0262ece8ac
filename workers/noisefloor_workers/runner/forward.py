"""One pass of a model over its inputs."""

import copy

import torch
from torch import nn

from noisefloor_workers.flows.eager import Stubs
from noisefloor_workers.subjects.inputs import ModelInputs

FORWARD_SEED = 0


def forward(model: nn.Module, inputs: ModelInputs) -> object:
    """One untapped pass, on a copy of the inputs and to a copy of the outputs.

    A model may work on its input in place, or give out a buffer that its next pass overwrites. The generator
    is set, so that a model that draws numbers gives the same ones whichever cells ran before. An error gets a
    note that names the layer it came from.
    """
    torch.manual_seed(FORWARD_SEED)
    with torch.no_grad():
        try:
            output: object = inputs.fed_to(model)
        except Exception as error:
            layer = _innermost(model, error)
            if layer is not None:
                error.add_note(f"in layer {layer}")
            raise
        try:
            return copy.deepcopy(output)
        except (TypeError, RuntimeError, copy.Error):
            # an output that holds what cannot be copied can be compared nevertheless
            return output


def _innermost(model: nn.Module, error: Exception) -> str | None:
    """The model's own name of the innermost layer that was running; None where it was the model itself."""
    own = model.module if isinstance(model, Stubs) else model
    paths = {id(part): path for path, part in own.named_modules()}
    found = None
    frame = error.__traceback__
    while frame is not None:
        found = paths.get(id(frame.tb_frame.f_locals.get("self")), found)
        frame = frame.tb_next
    return found or None
