"""Where in the model the error comes from: what is known of each layer of one edge."""

from typing import Annotated

from pydantic import Field

from noisefloor.contract.base import Text, Value
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.scheme import Edge, Variant

Share = Annotated[float, Field(ge=0, le=1)]
NEAR_OUTPUT_DB = 10.0


class Layer(Value):
    """One layer of the edge's actual variant against the same layer of its reference, in SQNR dB.

    `weight` compares what the two compute with. `cumulative` compares their outputs as the two models run,
    so that it holds the error of all layers before. `local` is the layer's own error, of its weights, its
    kernel and its output's quantization: both layers are fed with the reference's values, as the actual one
    takes them, quantized.
    `share` is the layer's part of the local errors: ‖e‖²/‖ref‖², over the sum of that over all layers.
    """

    name: Text
    kind: Text
    weight: Figure | None = None
    cumulative: Figure
    local: Figure
    share: Share | None = None


class LayerReport(Value):
    """The layers of one edge, in the order in which they run."""

    edge: Edge
    layers: tuple[Layer, ...] = ()
    unmatched: tuple[Text, ...] = Field(
        default=(), description="layers of the reference that the actual variant has no counterpart of"
    )
    matched_share: Share = 0.0
    first_divergent: Text | None = Field(
        default=None,
        description="where the error begins: the first layer with a tenth of the output's relative noise",
    )
    taps_change_output: bool = Field(
        default=False, description="the output differs when layers are looked at: then so may they"
    )
    unavailable: Text | None = Field(default=None, description="why this edge has no layers to look at")

    @property
    def ranked(self) -> tuple[Layer, ...]:
        """The layers by their share of the local errors, the largest first."""
        return tuple(sorted(self.layers, key=lambda layer: -(layer.share or 0.0)))


class LayerSensitivity(Value):
    """The output's SQNR in dB with this layer alone quantized, and with it alone left in float32."""

    name: Text
    quantize_one: Figure
    skip_one: Figure


class MixedConfig(Value):
    """Layers to keep in float32, and what that gave when it was converted and run.

    `predicted` is of the calibrated model with those layers replaced, their outputs still quantized as
    before. `measured` is of one that was prepared, calibrated and converted anew with `float_layers`; where
    the flow then leaves their outputs in float too, it is the higher of the two.
    """

    float_layers: tuple[Text, ...] = ()
    predicted: Figure
    measured: Figure | None = None
    reached: bool = Field(description="the measured SQNR is at or above the target")
    note: Text | None = Field(default=None, description="why it was not measured")


class Sensitivity(Value):
    """Which layers cost the output its decibels: each on its own, the costliest first."""

    edge: Edge
    variant: Variant | None = Field(default=None, description="whose layers were taken one by one")
    target_db: float
    layers: tuple[LayerSensitivity, ...] = ()
    mixed: MixedConfig | None = Field(
        default=None, description="null where the target is reached with nothing left in float32"
    )
    unavailable: Text | None = Field(default=None, description="why layers cannot be taken one by one")


class Culprit(Value):
    """The layer to look at first.

    The first whose output is no number; else whose own error grew most since the result before, or else the
    noisiest.
    """

    edge: Edge
    layer: Layer
    was: Layer | None = Field(default=None, description="at the result before; null of the noisiest")
    drop_db: float | None = Field(default=None, description="by which its own SQNR fell since, dB")

    @property
    def is_nonfinite(self) -> bool:
        """Whether it is the one at which NaN or infinite elements begin."""
        return FigureKind.NONFINITE in {self.layer.local.kind, self.layer.cumulative.kind}

    def __str__(self) -> str:
        """What it lost since; of the noisiest, its part of the layers' own errors.

        >>> own = {"kind": "finite", "value": 20.0}
        >>> layer = Layer(name="fc", kind="Linear", cumulative=own, local=own, share=0.9)
        >>> str(Culprit(edge="float32->true", layer=layer))
        "fc (Linear) has 90% of the layers' own errors"
        """
        name = f"{self.layer.name} ({self.layer.kind})"
        if self.is_nonfinite:
            return f"{name} is the first layer whose output has NaN or infinite elements"
        if self.was is not None and self.drop_db is not None:
            return (
                f"{name} lost {self.drop_db:.3f} dB: its own error was at {self.was.local} dB "
                f"and is at {self.layer.local} dB"
            )
        return f"{name} has {self.layer.share or 0:.0%} of the layers' own errors"


class LayerView(Value):
    """What the service tells of a cell's layers."""

    cell: Text
    reports: tuple[LayerReport, ...] = ()
    sensitivity: Sensitivity | None = None
    lost: tuple[Culprit, ...] = Field(
        default=(),
        description="of each edge whose baseline's layers are known: the one that lost most since, if any",
    )
