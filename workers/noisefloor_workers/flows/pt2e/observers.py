"""The observers of a prepared graph: what they see, and whether they are fit to quantize with.

They are torchao's, which have no class in common with those of `torch.ao.quantization`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

from noisefloor_workers.flows.protocol import CalibrationError
from noisefloor_workers.flows.pt2e.graph import owner
from noisefloor_workers.flows.pt2e.library import pt2e
from noisefloor_workers.subjects.inputs import ModelInputs

OBSERVERS = (pt2e.ObserverBase, pt2e.FakeQuantizeBase)
FORWARD_SEED = 0


def shown(prepared: GraphModule, calibration: ModelInputs) -> object:
    """Let the observers see the calibration data; refuse those that are not fit to quantize with."""
    layers = observed(prepared)
    hooks = [
        prepared.get_submodule(name).register_forward_pre_hook(_finite_only(layers[name])) for name in layers
    ]
    try:
        output = seeded(prepared, calibration)
    finally:
        for hook in hooks:
            hook.remove()
    for name, path in layers.items():
        _require_sound(prepared.get_submodule(name), path)
    return output


def observed(prepared: GraphModule) -> dict[str, str]:
    """The layer that each observer of a graph belongs to, by the observer's name."""
    found = {}
    for node in prepared.graph.find_nodes(op="call_module"):
        if isinstance(prepared.get_submodule(str(node.target)), OBSERVERS):
            nearest = [*node.all_input_nodes, *node.users]
            names = (owner(other) for other in nearest)
            found[str(node.target)] = next(filter(None, names), nearest[0].name)
    return found


def is_observed(prepared: GraphModule, node: Node) -> bool:
    return node.op == "call_module" and isinstance(prepared.get_submodule(str(node.target)), OBSERVERS)


def seeded(model: nn.Module, inputs: ModelInputs) -> object:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FORWARD_SEED)
        return inputs.fed_to(model)


def _finite_only(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def refuse(_observer: nn.Module, args: tuple[Any, ...]) -> None:
        if not torch.isfinite(args[0]).all():
            raise CalibrationError(path, "its observer saw NaN or infinity during calibration")

    return refuse


def _require_sound(observer: Any, path: str) -> None:
    part = getattr(observer, "activation_post_process", observer)
    if not hasattr(part, "min_val"):
        return
    low, high = torch.as_tensor(part.min_val), torch.as_tensor(part.max_val)
    if low.numel() == 0 or bool((low > high).any()):
        raise CalibrationError(path, "its observer saw no data during calibration")
    scale, _zero_point = part.calculate_qparams()
    if not (torch.isfinite(scale).all() and (scale > 0).all()):
        raise CalibrationError(path, "the range its observer saw gives no finite positive scale")
