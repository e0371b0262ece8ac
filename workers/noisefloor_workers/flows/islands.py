"""Layers in float32 amid eager's quantized ones, and which of them need not quantize what they give."""

import copy
import functools
import warnings
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn
from torch.ao import quantization
from torch.ao.nn.quantized import FloatFunctional
from torch.utils import _pytree as pytree

from noisefloor_workers.flows.observers import as_float, is_observed
from noisefloor_workers.subjects.inputs import ModelInputs

ao: Any = quantization  # half of its functions carry no types

ROWS = 2  # one could be squeezed away

Prepare = Callable[[nn.Module], nn.Module]
"""Inserts the observers that the model will have."""


class FloatIsland(nn.Module):
    """A layer in float32 amid quantized ones: dequantize, compute, and quantize for those that follow."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.dequant = ao.DeQuantStub()
        self.layer = layer
        self.quant: nn.Module = ao.QuantStub()
        layer.qconfig = None  # type: ignore[assignment] # torch's own mark for: not quantized

    def forward(self, *args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
        plain = (self._dequantized(argument) for argument in args)
        named = {name: self._dequantized(argument) for name, argument in kwargs.items()}
        quantized: torch.Tensor = self.quant(self.layer(*plain, **named))
        return quantized

    def _dequantized(self, argument: torch.Tensor) -> torch.Tensor:
        dequantized: torch.Tensor = self.dequant(argument) if argument.is_quantized else argument
        return dequantized


def leave_in_float(model: nn.Module, inputs: ModelInputs, prepare: Prepare, *, converts: bool) -> None:
    """Have islands that no quantized layer takes from stay float at their output too.

    `converts`: the model will have quantized tensors, which some operations do not take beside float ones.
    """
    islands = [path for path, part in model.named_modules() if isinstance(part, FloatIsland)]
    if not islands:
        return
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trial fails or it does not
        free = _not_taken(model, islands, inputs, prepare)
        if converts and free:
            free = _convertible(model, free, inputs, prepare)
    _leave(model, free)


def _leave(model: nn.Module, free: Collection[str]) -> nn.Module:
    for path in free:
        model.get_submodule(path).quant = nn.Identity()
    return model


def _not_taken(model: nn.Module, islands: list[str], inputs: ModelInputs, prepare: Prepare) -> list[str]:
    """The islands whose output autograd does not lead to from what a quantized layer takes.

    A pass with NaN in each one's place tells the same, at the cost of as many passes as there are islands.
    """
    prepared = as_float(prepare(copy.deepcopy(model))).requires_grad_(False)  # noqa: FBT003 - torch's own
    trace = _Trace()
    inside = tuple(f"{path}." for path in islands)
    for path, part in prepared.named_modules():
        if path in islands:
            part.register_forward_hook(functools.partial(trace.begin, path))
        elif isinstance(part, ao.QuantStub | ao.DeQuantStub):
            part.register_forward_hook(_cut)
        elif _is_quantized(part) and not path.startswith(inside):
            # a functional computes by methods, and is called at no other place than this
            called = part.activation_post_process if isinstance(part, FloatFunctional) else part
            called.register_forward_pre_hook(trace.take, with_kwargs=True)
            called.register_forward_hook(_cut)
    with torch.enable_grad():
        failed = _fails(lambda: _few(inputs).fed_to(prepared))
    return [] if failed else [path for path in islands if path not in trace.taken]


class _Trace:
    """From what quantized layers take back to the islands that gave it."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self._begun: dict[torch.Tensor, str] = {}

    def begin(self, path: str, _part: nn.Module, _args: object, output: Any) -> torch.Tensor:
        # raises for integers, and for what is no tensor
        leaf: torch.Tensor = output.detach().requires_grad_()
        self._begun[leaf] = path
        followed = leaf.clone()  # which may be changed in place
        if not followed.requires_grad:
            raise ValueError("the model turns autograd off")
        return followed

    def take(self, _part: nn.Module, *given: object) -> None:
        found = [leaf.grad_fn for leaf in pytree.tree_leaves(given) if isinstance(leaf, torch.Tensor)]
        seen: set[object] = set()
        while found:
            node: Any = found.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            found += [following for following, _ in node.next_functions]
            if getattr(node, "variable", None) in self._begun:
                self.taken.add(self._begun[node.variable])


def _cut(_part: nn.Module, _args: object, output: Any) -> Any:
    return pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, output)


def _is_quantized(part: nn.Module) -> bool:
    """A layer that conversion will quantize; a functional looks observed even where it will not be."""
    return is_observed(part) and getattr(part, "qconfig", None) is not None


def _convertible(model: nn.Module, free: list[str], inputs: ModelInputs, prepare: Prepare) -> list[str]:
    """As many of these islands, the last first, as the converted model can run with."""

    def fails(freed: Collection[str]) -> bool:
        return _fails(lambda: _convert_and_run(_leave(copy.deepcopy(model), freed), inputs, prepare))

    if not fails(free) or fails([]):
        return free  # the latter cannot be helped by quantizing
    found: list[str] = []
    for path in reversed(free):
        if not fails([path, *found]):
            found.insert(0, path)
    return found


def _convert_and_run(model: nn.Module, inputs: ModelInputs, prepare: Prepare) -> None:
    prepared, few = prepare(model.cpu()), _few(inputs).on("cpu")
    few.fed_to(prepared)
    few.fed_to(ao.convert(prepared, inplace=True))


def _few(inputs: ModelInputs) -> ModelInputs:
    return ModelInputs(
        args=tuple(tensor[:ROWS] for tensor in inputs.args),
        kwargs={name: tensor[:ROWS] for name, tensor in inputs.kwargs.items()},
    )


def _fails(run: Callable[[], object]) -> bool:
    try:
        run()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a model may raise anything
        return True
    return False
