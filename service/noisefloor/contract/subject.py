"""The subject: the model under test, its seeds and its inputs; or an operator."""

import math
from contextlib import suppress
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from noisefloor.contract.base import BuiltInOrPlugin, Text, Value
from noisefloor.contract.benchmark import Operator
from noisefloor.contract.operators import OPERATORS
from noisefloor.contract.tensor import FLOAT32_BYTES, INT64_BYTES, Shape, Size

ZooName = Annotated[
    str,
    BuiltInOrPlugin(
        "multiple-ops", "multiple-ops-no-avgpool", "bert", "gpt2", "vit", "resnet", "mobilenet-v2"
    ),
]
ImportPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", max_length=256)
]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Stage = Literal["model", "calibration", "evaluation"]
Distribution = Literal["uniform", "normal", "integers"]
Keyword = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$", max_length=128)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Below a folder that the operator names: no way up, no root.
FileName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$", max_length=256
    ),
]

SOURCES = ("zoo", "import", "import_", "operator", "conformance")
LABEL_CHARS = 512
MAX_INTEGER = 2**53  # whole numbers up to here are exact as JSON's
# Floats from here on are written with an exponent, and so lose in JSONB that they are floats.
WRITTEN_OUT = 1e16
MAX_WORD = 2**64  # no seed, size or element of an integer tensor is larger
# A number that is written as it is kept: a key must not tell one that was just posted from one that was read.
Number = Annotated[float, AfterValidator(lambda value: value + 0.0)]


def _kept(value: str | float) -> str | float:
    """A number as every database gives it back: JSONB has no -0.0, and 1e16 is an integer to it."""
    if isinstance(value, str | bool):
        return value
    if abs(value) >= MAX_WORD:
        with suppress(OverflowError):
            return float(value)
    if isinstance(value, float):
        return int(value) if abs(value) >= WRITTEN_OUT else value + 0.0
    return value


class Seeds(Value):
    """Where randomness comes from: three seeds, or one stream drawn by the three stages in turn.

    Three different seeds are the rule. `stream` is the way of scripts that call `manual_seed` once: one
    generator serves model, calibration and evaluation data in `order`.
    """

    model: Seed = 1
    calibration: Seed = 2
    evaluation: Seed = 3
    stream: Seed | None = None
    order: tuple[Stage, Stage, Stage] = ("model", "calibration", "evaluation")

    @model_validator(mode="after")
    def _stages_once(self) -> Self:
        if len(set(self.order)) != len(self.order):
            raise ValueError("order names each of model, calibration, evaluation once")
        return self

    @model_validator(mode="after")
    def _stream_stands_alone(self) -> Self:
        # By value, not by what was written: a dump with all its defaults reads back as the same seeds.
        differing = self.model_dump(exclude_defaults=True).keys()
        if self.stream is not None and differing & {"model", "calibration", "evaluation"}:
            raise ValueError("give either stream or the seeds model, calibration, evaluation, not both")
        if self.stream is None and "order" in differing:
            raise ValueError("order belongs to stream")
        return self


class Drawn(Value):
    """A distribution: float32, or int64 where it is of integers."""

    distribution: Distribution = "uniform"
    low: Number = Field(default=0.0, description="lower end of uniform and integers, mean of normal")
    high: Number = Field(
        default=1.0,
        description="upper end of uniform and integers (exclusive); mean + standard deviation of normal",
    )

    @model_validator(mode="after")
    def _bounds_fit(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        if self.distribution == "integers":
            whole = self.low.is_integer() and self.high.is_integer()
            if not whole or self.low == self.high or max(-self.low, self.high) > MAX_INTEGER:
                raise ValueError(
                    f"no integers from {self.low:g} to below {self.high:g}: give whole numbers within ±2**53"
                )
        return self


class TensorSpec(Drawn):
    """A generated tensor, batch first."""

    shape: Shape

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * (INT64_BYTES if self.distribution == "integers" else FLOAT32_BYTES)


def _by_name(kwargs: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
    return dict(sorted(kwargs.items()))


class Inputs(Drawn):
    """What a model is called with: one generated tensor, several of them, or tensors from a file.

    One tensor is written flat, as `{shape: [8, 3]}`. Models with several inputs take `args`, by position,
    and `kwargs`, by name. Every tensor has the batch in its first dimension. They are drawn in turn, keywords
    by the alphabet: JSON objects have no order, and databases do not keep one.
    """

    shape: Shape | None = None
    args: Annotated[tuple[TensorSpec, ...], Field(max_length=64)] = ()
    kwargs: Annotated[dict[Keyword, TensorSpec], Field(max_length=64), AfterValidator(_by_name)] = Field(
        default_factory=dict
    )
    safetensors: FileName | None = Field(
        default=None,
        description="file below NOISEFLOOR_FILES: tensors named 0, 1, … are positional, others keywords",
    )
    sha256: Sha256 | None = Field(default=None, description="of the file, which must match")
    batch: Size | None = Field(default=None, description="samples in the file; with safetensors only")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("shape", "args", "kwargs", "safetensors") if getattr(self, name)]
        if given not in (["shape"], ["args"], ["kwargs"], ["args", "kwargs"], ["safetensors"]):
            said = ", ".join(given) or "none"
            raise ValueError(f"inputs are a shape, args and kwargs, or a safetensors file; given: {said}")
        flat = {"distribution", "low", "high"} & self.model_dump(exclude_defaults=True).keys()
        if flat and self.shape is None:
            raise ValueError(f"{min(flat)} belongs to shape")
        if (self.safetensors is None) != (self.batch is None):
            raise ValueError("safetensors and batch go together: how many samples the file holds")
        if self.sha256 is not None and self.safetensors is None:
            raise ValueError("sha256 belongs to safetensors")
        batches = {spec.shape[0] for spec in self.tensors}
        if len(batches) > 1:
            said = ", ".join(str(batch) for batch in sorted(batches))
            raise ValueError(f"all inputs have the same batch in their first dimension; given: {said}")
        return self

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The generated tensors, positional ones first."""
        if self.shape is not None:
            return (
                TensorSpec(shape=self.shape, distribution=self.distribution, low=self.low, high=self.high),
            )
        return (*self.args, *self.kwargs.values())

    @property
    def samples(self) -> int:
        """The batch size."""
        return self.batch if self.batch is not None else self.tensors[0].shape[0]

    @property
    def size_bytes(self) -> int:
        """Of the generated tensors."""
        return sum(spec.size_bytes for spec in self.tensors)


class Data(Value):
    """What the observers see, and what the figures are measured on."""

    calibration: Inputs
    evaluation: Inputs


class Weights(Value):
    """A state dict in a safetensors file, loaded strictly: every tensor of the model, and no other."""

    safetensors: FileName = Field(description="file below NOISEFLOOR_FILES")
    sha256: Sha256 | None = Field(default=None, description="of the file, which must match")


class Subject(Value):
    """A model from one source, with its weights, its seeds and its inputs; or an operator of torch.

    An operator's input follows from its arguments and the seed of the evaluation; one that the conformance
    suite knows has cases of its own. What `conformance` may name is checked where a job is submitted: a
    result of an operator that has gone since can still be read.
    """

    zoo: ZooName | None = None
    import_: ImportPath | None = Field(default=None, alias="import", description="package.module:factory")
    operator: Operator | None = Field(default=None, description="with schemes of the flow ops")
    conformance: Text | None = Field(
        default=None,
        description="an operator that the conformance suite knows; in a job, a glob of them",
        examples=["*", "conv*", *OPERATORS],
    )
    args: dict[Text, Annotated[bool | int | float | Text, AfterValidator(_kept)]] = Field(
        default_factory=dict, max_length=32, description="from 1e16 whole numbers, from 2**64 floats"
    )
    weights: Weights | None = Field(default=None, description="instead of those drawn from the model's seed")
    seeds: Seeds = Seeds()
    data: Data | None = Field(default=None, description="of a model: needed")

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, data: Any) -> Any:
        if isinstance(data, dict):
            given = [key for key in SOURCES if data.get(key) is not None]
            if len(given) != 1:
                raise ValueError(
                    "a subject has one source, 'zoo', 'import', 'operator' or 'conformance'; "
                    f"{len(given)} are given"
                )
            if given[0] not in {"operator", "conformance"} and data.get("data") is None:
                raise PydanticCustomError("missing_key", "a model needs data", {"key": "data"})
        return data

    @model_validator(mode="after")
    def _an_operator_stands_alone(self) -> Self:
        given = [name for name in ("args", "weights", "data") if getattr(self, name)]
        if self.is_operator and given:
            raise ValueError(f"{given[0]} belongs to a model: an operator has arguments of its own")
        if self.operator is not None and self.seeds != Seeds(evaluation=self.seeds.evaluation):
            raise ValueError("an operator has one seed, seeds.evaluation")
        if self.conformance is not None and self.seeds != Seeds():
            raise ValueError("seeds belongs to what is drawn: the conformance suite has cases of its own")
        return self

    @property
    def label(self) -> str:
        """The name people call it by."""
        if self.operator is not None:
            return self.operator.label[:LABEL_CHARS]
        return self.zoo or self.import_ or self.conformance or ""

    @property
    def is_operator(self) -> bool:
        return self.operator is not None or self.conformance is not None

    @property
    def is_of_a_commit(self) -> bool:
        """Whether a commit can change what it measures: a model of the zoo comes with the environment."""
        return self.import_ is not None or bool(self.unpinned)

    @property
    def unpinned(self) -> tuple["Weights | Inputs", ...]:
        """Its files without their `sha256`: a worker takes what it has under their names."""
        data = self.data
        files = (self.weights, *((data.calibration, data.evaluation) if data is not None else ()))
        return tuple(f for f in files if f is not None and f.safetensors is not None and f.sha256 is None)

    @property
    def batch(self) -> int:
        """Samples that the figures are of: the first size of an operator's input; 0 for a grid of cases."""
        if self.operator is not None:
            return self.operator.shape[0]
        return self.data.evaluation.samples if self.data is not None else 0
