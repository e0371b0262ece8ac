"""The layer to look at first. Pure."""

from noisefloor.contract.layers import Culprit, Layer, LayerReport
from noisefloor.gate.attribution import NOTICEABLE_DB


def culprit(report: LayerReport, before: LayerReport | None) -> Culprit | None:
    """The layer whose own error grew most since the report before, or else the one with the largest share.

    Before either comes the first layer with NaN or infinite elements: what follows has them from there. The
    error before is that of the same layer; one that came or went has nothing to be held against.
    """
    if not report.layers:
        return None
    for layer in report.layers:
        broken = Culprit(edge=report.edge, layer=layer)
        if broken.is_nonfinite:
            return broken
    if before is not None:
        earlier = {layer.name: layer for layer in before.layers}
        lost = [
            Culprit(edge=report.edge, layer=layer, was=earlier[layer.name], drop_db=drop_db)
            for layer in report.layers
            if layer.name in earlier and (drop_db := _drop_db(earlier[layer.name], layer)) is not None
        ]
        most = max(lost, key=lambda one: one.drop_db or 0.0, default=None)
        if most is not None and most.drop_db is not None and most.drop_db > NOTICEABLE_DB:
            return most
    noisiest = report.ranked[0]
    return Culprit(edge=report.edge, layer=noisiest) if noisiest.share else None


def _drop_db(before: Layer, now: Layer) -> float | None:
    if before.local.value is None or now.local.value is None:
        return None
    return before.local.value - now.local.value
