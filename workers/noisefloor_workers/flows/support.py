"""What flows say no to, in the same words."""

import difflib
from collections.abc import Collection, Iterable, Mapping

from noisefloor.contract.scheme import Edge, Mode, Quantization, Variant, ends
from noisefloor_workers.lanes.engine import Unsupported

OPTIONAL = ("quantizer", "activation_dtype", "weight_dtype", "group_size", "float_layers")


def why_not(
    quantization: Quantization,
    edges: Iterable[Edge],
    *,
    variants: Mapping[Mode, tuple[Variant, ...]],
    uses: Iterable[str] = (),
) -> str | None:
    """Why a flow with these variants by mode, and a use for these options, cannot do it; None if it can.

    Every flow has float64 too: the same model in double precision.

    >>> why_not(
    ...     Quantization(flow="eager", mode="static", quantizer="spec"), [], variants={"static": ()}
    ... )
    'eager has no use for quantizer spec: leave it out'
    """
    flow, mode = quantization.flow, quantization.mode
    if mode not in variants:
        return f"{flow} has no mode {mode}; it has: {', '.join(variants)}"
    for option in OPTIONAL:
        if getattr(quantization, option) and option not in uses:
            given = getattr(quantization, option)
            said = ", ".join(given) if isinstance(given, tuple) else given
            return f"{flow} has no use for {option} {said}: leave it out"
    offered = (Variant.FLOAT64, *variants[mode])
    for edge in edges:
        for end in ends(edge):
            if end not in offered:
                return f"{flow} {mode} has no variant {end} for {edge}; it has: {', '.join(offered)}"
    return None


def require_layers(named: Iterable[str], layers: Collection[str]) -> None:
    """Refuse a name in `float_layers` that is no layer of the model, with the nearest that is."""
    for name in named:
        if name not in layers:
            near = difflib.get_close_matches(name, layers, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Unsupported(f"float_layers names {name}, which is no layer of this model{hint}")
