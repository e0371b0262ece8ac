"""The scheme: how a model is quantized, and which pairs of its variants are compared."""

import hashlib
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from noisefloor.contract.base import BuiltInOrPlugin, Text, Value, contradiction, refuse_repeats

OPS, CONFORMANCE = "ops", "conformance"
Flow = Annotated[str, BuiltInOrPlugin("eager", "fx", "minmax_fx", "pt2e", "torchao", OPS, CONFORMANCE)]
Quantizer = Annotated[
    str, BuiltInOrPlugin("x86_inductor", "embedding", "composable", "arm_inductor", "xnnpack", "spec")
]
Direction = Literal["forward", "backward"]
Grid = Literal["quick", "full"]
Mode = Literal["static", "dynamic", "qat", "weight_only", "activation_only", Direction, Grid]
Granularity = Literal["per_tensor", "per_channel"]
ActivationDtype = Literal["int8", "uint8", "int16", "float8_e5m2", "float8_e4m3fn"]
WeightDtype = Literal["int8", "int4", "float8_e4m3fn"]
Edge = Literal[
    "float32->true",
    "float32->fake",
    "float32->reference",
    "fake->reference",
    "fake->true",
    "reference->true",
    "float64->float32",
    "float64->fake",
    "float64->true",
]
Decibels = Annotated[float, Field(ge=-1000, le=1000)]
OPERATOR_MODES: dict[str, tuple[str, ...]] = {OPS: get_args(Direction), CONFORMANCE: get_args(Grid)}
ORACLE: Edge = "reference->true"
SHOWN_NAMES_CHARS = 80


class Variant(StrEnum):
    """One form of the model inside a cell, from the one nearest to real numbers to what is shipped.

    `reference` computes what the quantized model means, dequantize → float operation → quantize, in float32.
    """

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    FAKE = "fake"
    REFERENCE = "reference"
    TRUE = "true"


def ends(edge: Edge) -> tuple[Variant, Variant]:
    """The reference variant and the actual variant of an edge.

    >>> ends("fake->true")
    (<Variant.FAKE: 'fake'>, <Variant.TRUE: 'true'>)
    """
    ref, _, actual = edge.partition("->")
    return Variant(ref), Variant(actual)


class Quantization(Value):
    """How a model is quantized. Engine-independent: qconfig and engine are two axes.

    What a flow has no use for is left out; it says so of what it was given and cannot use. The flows `ops`
    and `conformance` are of operators, which say how they quantize: their modes are the pass that is
    measured, and the grid of cases that is tried.
    """

    flow: Flow
    mode: Mode
    granularity: Granularity = "per_tensor"
    reduce_range: bool = Field(default=True, description="activations use 7 of the 8 bits")
    quantizer: Quantizer | None = Field(default=None, description="who annotates the graph: pt2e only")
    activation_dtype: ActivationDtype | None = Field(default=None, description="the flow's own by default")
    weight_dtype: WeightDtype | None = Field(default=None, description="the flow's own by default")
    group_size: Annotated[int, Field(ge=1, le=2**20)] | None = Field(
        default=None, description="weights along the input that share a scale"
    )
    float_layers: Annotated[tuple[Text, ...], Field(max_length=4096)] = Field(
        default=(), description="layers that stay float32, by the model's own names: a mixed config"
    )

    @model_validator(mode="after")
    def _range_of_what_is_quantized(self) -> Self:
        if self.mode == "weight_only" and not self.reduce_range:
            raise ValueError(
                "reduce_range is about activations, and weight_only quantizes none: leave it out"
            )
        refuse_repeats("float_layers", self.float_layers)
        return self

    @model_validator(mode="after")
    def _operators_have_modes_of_their_own(self) -> Self:
        for flow, modes in OPERATOR_MODES.items():
            if (self.flow == flow) != (self.mode in modes):
                raise ValueError(f"the modes {', '.join(modes)} are those of the flow {flow}, and no other")
        given = self.model_dump(exclude_defaults=True).keys() & Quantization.model_fields.keys()
        given -= {"flow", "mode"}
        if self.flow in OPERATOR_MODES and given:
            raise ValueError(f"{min(given)} is of the quantization of a model: leave it out")
        return self

    @property
    def label(self) -> str:
        """Flow, mode and granularity, and whatever is not the default, in the field's words."""
        extras = [] if self.reduce_range else ["full_range"]
        extras += [self.quantizer] if self.quantizer else []
        extras += [f"a:{self.activation_dtype}"] if self.activation_dtype else []
        extras += [f"w:{self.weight_dtype}"] if self.weight_dtype else []
        extras += [f"g{self.group_size}"] if self.group_size else []
        extras += [f"without {self._kept()}"] if self.float_layers else []
        grain = [] if self.flow in OPERATOR_MODES else [self.granularity]
        return " ".join([self.flow, self.mode, *grain, *extras])

    def _kept(self) -> str:
        """The layers kept float, as long as they are few; else how many, and which by a digest of names."""
        names = ",".join(self.float_layers)
        if len(names) <= SHOWN_NAMES_CHARS:
            return names
        return (
            f"{len(self.float_layers)} layers ({hashlib.blake2b(names.encode(), digest_size=4).hexdigest()})"
        )


class Scheme(Quantization):
    """A quantization, the edges to measure, and the floor in dB under each of them."""

    SHORT_FORMS = ("edge",)

    edges: Annotated[tuple[Edge, ...], Field(min_length=1, max_length=len(get_args(Edge)))]
    floor_db: dict[Edge, Decibels] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """`edge: X` stands for `edges: [X]`; one number for `floor_db` is the floor of the only edge.

        Conformance has one edge, which nobody needs to write.
        """
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "edge" in data:
            if "edges" in data:
                raise ValueError("give either edge or edges, not both")
            data["edges"] = [data.pop("edge")]
        if data.get("flow") == CONFORMANCE:
            data.setdefault("edges", [ORACLE])
        edges = data.get("edges")
        floor_db = data.get("floor_db", {})
        if not isinstance(floor_db, int | float | dict):
            raise contradiction("floor_db", "give a number, or a mapping from edge to number", floor_db)
        if isinstance(floor_db, int | float) and isinstance(edges, list | tuple):
            if len(edges) != 1:
                raise ValueError("one floor_db for several edges: give a mapping from edge to dB")
            # What is no text is no edge: the edges' own error says so.
            data["floor_db"] = {edges[0]: floor_db} if isinstance(edges[0], str) else {}
        return data

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The short forms are part of what a user may write, so editors know them too."""
        reference = handler(core_schema)
        schema = handler.resolve_ref_schema(reference)
        properties = schema["properties"]
        properties["edge"] = {**properties["edges"]["items"], "description": "short for edges with one entry"}
        properties["floor_db"] = {"anyOf": [{"type": "number"}, properties["floor_db"]]}
        schema["required"].remove("edges")
        conformance = {"properties": {"flow": {"const": CONFORMANCE}}, "required": ["flow"]}
        one_of = [{"required": ["edge"]}, {"required": ["edges"]}]
        schema |= {"if": conformance, "else": {"oneOf": one_of}}
        return reference

    @model_validator(mode="after")
    def _floors_stand_under_edges(self) -> Self:
        refuse_repeats("edges", self.edges)
        if self.flow == CONFORMANCE and self.floor_db:
            raise ValueError(f"{CONFORMANCE} is judged by what is found of a kernel: leave floor_db out")
        if self.flow == CONFORMANCE and self.edges != (ORACLE,):
            raise ValueError(f"{CONFORMANCE} has one edge, {ORACLE}: the oracle against the kernel")
        astray = [edge for edge in self.floor_db if edge not in self.edges]
        if astray:
            raise ValueError(f"floor_db names {astray[0]!r}, which is not among the edges {list(self.edges)}")
        return self

    @property
    def quantization(self) -> Quantization:
        """The scheme without what is judged: what a series is identified by."""
        return Quantization(**{name: getattr(self, name) for name in Quantization.model_fields})
