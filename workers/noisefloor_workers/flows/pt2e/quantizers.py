"""Who annotates an exported graph: torchao's quantizers, XNNPACK's, one of ours, a plugin's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from noisefloor.contract.scheme import ActivationDtype, Granularity, Mode, Quantization
from noisefloor_workers.flows.protocol import Unsupported
from noisefloor_workers.flows.pt2e.graph import lies_in
from noisefloor_workers.flows.pt2e.library import ANNOTATION, arm, embedding, executorch, quantizers, x86
from noisefloor_workers.flows.pt2e.spec import Spec
from noisefloor_workers.plugins import plugin

DEFAULT = "x86_inductor"
EITHER = (True, False)


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """What a quantizer can do; `build` is called with a quantization that it can."""

    build: Callable[[Quantization], Any]
    granularity: tuple[Granularity, ...] = get_args(Granularity)
    reduce_range: Mapping[Mode, tuple[bool, ...]]
    activation_dtype: Mapping[Mode, tuple[ActivationDtype, ...]] = field(default_factory=dict)


def name_of(quantization: Quantization) -> str:
    return quantization.quantizer or DEFAULT


def quantizer_for(quantization: Quantization) -> Any:
    """A new quantizer; Unsupported where there is none of the name, or its library is missing."""
    name = name_of(quantization)
    if name in OFFERS:
        return OFFERS[name].build(quantization)
    return plugin("quantizer", name, OFFERS)(quantization)


def why_not(quantization: Quantization) -> str | None:
    """Why the quantizer cannot do it, naming what it can; None where it can. A plugin's is its own affair."""
    name, mode = name_of(quantization), quantization.mode
    if name not in OFFERS:
        return _why_no_plugin(name)
    offer = OFFERS[name]
    if mode not in offer.reduce_range:
        return f"pt2e's quantizer {name} has no mode {mode}; it has: {', '.join(offer.reduce_range)}"
    if quantization.granularity not in offer.granularity:
        only = offer.granularity[0]
        return f"pt2e's quantizer {name} quantizes weights {only}: granularity {only} is the only one"
    dtypes = offer.activation_dtype.get(mode, ())
    if quantization.activation_dtype is not None and quantization.activation_dtype not in dtypes:
        has = f"it has: {', '.join(dtypes)}" if dtypes else "leave it out"
        given = quantization.activation_dtype
        return f"pt2e's quantizer {name} {mode} has no activation_dtype {given}; {has}"
    if quantization.reduce_range not in _ranges(quantization, offer):
        said = "true" if not quantization.reduce_range else "false"
        return f"pt2e's quantizer {name} has one range of activations: reduce_range {said} is the only one"
    return None


def options(quantization: Quantization) -> tuple[str, ...]:
    """The optional parts of a scheme that the quantizer has a use for."""
    if name_of(quantization) not in OFFERS:
        return ("quantizer", "activation_dtype", "weight_dtype", "group_size", "float_layers")
    return ("quantizer", "activation_dtype", "float_layers")


def _ranges(quantization: Quantization, offer: _Offer) -> tuple[bool, ...]:
    is_float = (quantization.activation_dtype or "").startswith("float")
    return (False,) if is_float else offer.reduce_range[quantization.mode]


def _why_no_plugin(name: str) -> str | None:
    try:
        plugin("quantizer", name, OFFERS)
    except Unsupported as error:
        return error.reason
    return None


def _x86_inductor(quantization: Quantization) -> Any:
    config = x86.get_default_x86_inductor_quantization_config(
        is_qat=quantization.mode == "qat",
        is_dynamic=quantization.mode == "dynamic",
        reduce_range=quantization.reduce_range,
    )
    return _without(x86.X86InductorQuantizer().set_global(config), quantization)


def _arm_inductor(quantization: Quantization) -> Any:
    config = arm.get_default_arm_inductor_quantization_config(
        is_qat=quantization.mode == "qat", is_dynamic=quantization.mode == "dynamic"
    )
    return _without(arm.ArmInductorQuantizer().set_global(config), quantization)


def _without(quantizer: Any, quantization: Quantization) -> Any:
    for layer in quantization.float_layers:
        quantizer.set_module_name_qconfig(layer, None)
    return quantizer


def _xnnpack(quantization: Quantization) -> Any:
    xnnpack = executorch("backends.xnnpack.quantizer.xnnpack_quantizer", "quantizer xnnpack")
    config = xnnpack.get_symmetric_quantization_config(
        is_per_channel=quantization.granularity == "per_channel",
        is_qat=quantization.mode == "qat",
        is_dynamic=quantization.mode == "dynamic",
    )
    kept = frozenset(quantization.float_layers)
    quantizer = xnnpack.XNNPACKQuantizer().set_global(config)
    return quantizer.set_filter_function(lambda node: not lies_in(node, kept))


def _embedding(quantization: Quantization) -> Any:
    return _Embedding(frozenset(quantization.float_layers))


class _Embedding(embedding.EmbeddingQuantizer):  # type: ignore[misc] # torchao carries no types
    """torchao's, but for the tables that stay float."""

    def __init__(self, kept: frozenset[str]) -> None:
        super().__init__()
        self._kept = kept

    def annotate(self, model: Any) -> Any:
        annotated = super().annotate(model)
        for node in model.graph.nodes:
            if lies_in(node, self._kept):
                node.meta.pop(ANNOTATION, None)
        return annotated


def _composable(quantization: Quantization) -> Any:
    parts = [_embedding(quantization), _x86_inductor(quantization)]
    return quantizers.ComposableQuantizer(parts)


OFFERS: Mapping[str, _Offer] = {
    "x86_inductor": _Offer(
        build=_x86_inductor,
        granularity=("per_channel",),
        reduce_range={"static": EITHER, "dynamic": EITHER, "qat": EITHER},
    ),
    "embedding": _Offer(
        build=_embedding, granularity=("per_channel",), reduce_range={"weight_only": (True,)}
    ),
    # Not qat: an embedding has no fake quantizer, and `fake` would not show what `reference` has.
    "composable": _Offer(
        build=_composable, granularity=("per_channel",), reduce_range={"static": EITHER, "dynamic": EITHER}
    ),
    "arm_inductor": _Offer(
        build=_arm_inductor,
        granularity=("per_tensor",),
        reduce_range={"static": (False,), "dynamic": (False,), "qat": (False,)},
    ),
    "xnnpack": _Offer(
        build=_xnnpack, reduce_range={"static": (False,), "dynamic": (False,), "qat": (False,)}
    ),
    "spec": _Offer(
        build=Spec,
        reduce_range={"static": EITHER, "dynamic": EITHER, "qat": EITHER, "weight_only": (True,)},
        activation_dtype={
            "static": get_args(ActivationDtype),
            "dynamic": ("int8", "uint8"),
            "qat": ("int8", "uint8"),
        },
    ),
}
