"""The scheme: how a model is quantized, and which pairs of its variants are compared."""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from noisefloor.contract.base import Value, refuse_repeats

Flow = Literal["eager", "fx"]
Mode = Literal["static", "dynamic", "qat", "weight_only", "activation_only"]
Granularity = Literal["per_tensor", "per_channel"]
Edge = Literal[
    "float32->true",
    "float32->fake",
    "float32->reference",
    "fake->reference",
    "fake->true",
    "reference->true",
    "float64->float32",
]
Decibels = Annotated[float, Field(ge=-1000, le=1000)]


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
    """How a model is quantized. Engine-independent: qconfig and engine are two axes."""

    flow: Flow
    mode: Mode
    granularity: Granularity = "per_tensor"
    reduce_range: bool = Field(default=True, description="activations use 7 of the 8 bits")

    @model_validator(mode="after")
    def _range_of_what_is_quantized(self) -> Self:
        if self.mode == "weight_only" and not self.reduce_range:
            raise ValueError(
                "reduce_range is about activations, and weight_only quantizes none: leave it out"
            )
        return self

    @property
    def label(self) -> str:
        """Flow, mode and granularity, in the field's words."""
        full_range = "" if self.reduce_range else " full_range"
        return f"{self.flow} {self.mode} {self.granularity}{full_range}"


class Scheme(Quantization):
    """A quantization, the edges to measure, and the floor in dB under each of them."""

    edges: Annotated[tuple[Edge, ...], Field(min_length=1, max_length=len(get_args(Edge)))]
    floor_db: dict[Edge, Decibels] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """`edge: X` stands for `edges: [X]`; one number for `floor_db` is the floor of the only edge."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "edge" in data:
            if "edges" in data:
                raise ValueError("give either edge or edges, not both")
            data["edges"] = [data.pop("edge")]
        edges = data.get("edges")
        floor_db = data.get("floor_db")
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
        schema["oneOf"] = [{"required": ["edge"]}, {"required": ["edges"]}]
        return reference

    @model_validator(mode="after")
    def _floors_stand_under_edges(self) -> Self:
        refuse_repeats("edges", self.edges)
        astray = [edge for edge in self.floor_db if edge not in self.edges]
        if astray:
            raise ValueError(f"floor_db names {astray[0]!r}, which is not among the edges {list(self.edges)}")
        return self

    @property
    def quantization(self) -> Quantization:
        """The scheme without what is judged: what a series is identified by."""
        return Quantization(**{name: getattr(self, name) for name in Quantization.model_fields})
