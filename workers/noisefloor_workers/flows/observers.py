"""What eager and FX share of `torch.ao.quantization`: the observers, and whether they are fit for use."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.ao import quantization

from noisefloor.contract.scheme import Quantization
from noisefloor_workers.flows.protocol import CalibrationError

ao: Any = quantization  # half of its functions carry no types

OBSERVER_PARTS = frozenset({"activation_post_process", "weight_fake_quant"})

SILENCED = (
    ".*reduce_range",  # will go
    "torch.quantize_per_tensor, ",  # will go
    "must run observer before",  # an error here: see `require_sound_observers`
    "To copy construct from a tensor",  # torch's own, on the scales of an LSTM
)


def qconfig(quantization: Quantization) -> Any:
    """The observers of a quantization: torch's own defaults, by name, wherever one exists.

    Those use 7 of the 8 bits for activations; `reduce_range=False` widens the same observers.
    """
    mode, per_channel = quantization.mode, quantization.granularity == "per_channel"
    if mode == "dynamic":
        return ao.per_channel_dynamic_qconfig if per_channel else ao.default_dynamic_qconfig
    if mode == "static":
        base = ao.default_per_channel_qconfig if per_channel else ao.default_qconfig
        wide = ao.MinMaxObserver.with_args(dtype=torch.quint8, quant_min=0, quant_max=255)
    else:
        by_mode = {
            "qat": ao.default_qat_qconfig,
            "weight_only": ao.default_weight_only_qconfig,
            "activation_only": ao.default_activation_only_qconfig,
        }
        base = by_mode[mode]
        if per_channel:
            base = base._replace(weight=ao.default_per_channel_weight_fake_quant)
        wide = ao.default_fake_quant.with_args(reduce_range=False)
    if quantization.reduce_range or mode == "weight_only":
        return base
    return base._replace(activation=wide)


def layer_name(path: str) -> str:
    """The layer that an observer or a parameter's module belongs to.

    >>> layer_name("block.fc.weight_fake_quant.activation_post_process"), layer_name("")
    ('block.fc', 'model')
    """
    return ".".join(part for part in path.split(".") if part not in OBSERVER_PARTS) or "model"


def require_finite_weights(module: nn.Module, named: Callable[[str], str] = layer_name) -> None:
    """Refuse a weight or bias that holds NaN or infinity; `named` gives the layer of a module's path."""
    for name, parameter in module.named_parameters():
        bad = parameter.numel() - int(torch.isfinite(parameter).sum())
        if bad:
            path, _, kind = name.rpartition(".")
            reason = f"{bad} of {parameter.numel()} values of its {kind} are not finite"
            raise CalibrationError(named(path), reason)


def require_sound_observers(
    module: nn.Module, named: Callable[[str], str] = layer_name, *, seen_all: bool
) -> None:
    """Refuse an observer that saw nothing, or NaN, or gives no finite positive scale; name its layer.

    `seen_all`: the calibration data went all the way, so that every observer must have seen some.
    """
    for name, part in module.named_modules():
        if not isinstance(part, ao.ObserverBase) or not hasattr(part, "min_val"):
            continue
        low, high = torch.as_tensor(part.min_val), torch.as_tensor(part.max_val)
        if low.numel() == 0 or bool((low > high).any()):
            if seen_all:
                raise CalibrationError(named(name), "its observer saw no data during calibration")
            continue
        if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise CalibrationError(named(name), "its observer saw NaN or infinity during calibration")
        scale, _zero_point = part.calculate_qparams()
        if not (torch.isfinite(scale).all() and (scale > 0).all()):
            raise CalibrationError(named(name), "the range its observer saw gives no finite positive scale")


def is_observed(part: nn.Module) -> bool:
    """A layer whose output is quantized, or would be: an observer has one of its own, and is none."""
    return hasattr(part, "activation_post_process") and not isinstance(part, ao.FakeQuantizeBase)


def as_float(prepared: nn.Module) -> nn.Module:
    """A copy of a prepared model that computes in float32; the original's observers see nothing of it."""
    model = copy.deepcopy(prepared)
    model.apply(ao.disable_fake_quant)
    model.apply(ao.disable_observer)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what torch says of its own quantization while a flow uses it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.ao")
        for message in SILENCED:
            warnings.filterwarnings("ignore", message=message, category=UserWarning)
        yield
