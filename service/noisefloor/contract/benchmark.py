"""An operator that quantizes, to be benchmarked: what torch calls it, and what it is called with."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from noisefloor.contract.base import BuiltIn, Value
from noisefloor.contract.tensor import FLOAT32_BYTES, Shape

FAKE_QUANTIZE = "FakeQuantize"
OPERATORS = (
    "quantize_per_tensor",
    "quantize_per_channel",
    "dequantize_per_tensor",
    "dequantize_per_channel",
    FAKE_QUANTIZE,
    "fake_quantize_per_tensor_affine",
    "fake_quantize_per_channel_affine",
    "fake_quantize_learnable_per_tensor_affine",
    "fake_quantize_learnable_per_channel_affine",
)
HOLDING_THEIR_OWN = (FAKE_QUANTIZE, "dequantize_per_tensor")
Dtype = Literal["quint8", "qint8", "qint32"]
ZeroPointDtype = Literal["int32", "float32", "float16"]
Positive = Annotated[float, Field(ge=1e-20, le=1e20)]  # its inverse is no subnormal float32 either
Whole = Annotated[int, Field(ge=-2048, le=2048)]  # float16 holds these exactly
QINT32_BITS = 32


class Operator(Value):
    """An operator and its arguments. The defaults of scale and zero point are those of torch's benchmark.

    `dtype` is what codes are stored in; of fake quantization it says whether codes are unsigned or signed.
    """

    name: Annotated[str, BuiltIn(*OPERATORS)]
    shape: Shape
    dtype: Dtype = "quint8"
    bits: Literal[4, 8] = Field(default=8, description="of the codes of a fake quantization")
    axis: int | None = Field(default=None, validate_default=True, description="of the channels")
    scales: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=16)] = Field(
        default=(1.0,), description="one, or several that the channels take in turn; rounded to float32"
    )
    zero_points: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=16)] = Field(
        default=(0,), description="likewise"
    )
    zero_point_dtype: ZeroPointDtype | None = Field(
        default=None, description="float32 by default for learnable operators, int32 for the others"
    )
    values: Literal["ties", "unit"] = Field(
        default="ties",
        description="over the range and beyond it, with ties and their neighbours; or uniform in [0, 1)",
    )

    @field_validator("dtype")
    @classmethod
    def _fake_codes_have_bits(cls, dtype: Dtype, info: ValidationInfo) -> Dtype:
        if dtype == "qint32" and is_fake(info.data.get("name", "")):
            raise refusal("fake quantization has codes of 4 or 8 bits", ["quint8", "qint8"])
        return dtype

    @field_validator("bits")
    @classmethod
    def _bits_of_fakes(cls, bits: int, info: ValidationInfo) -> int:
        name = info.data.get("name", FAKE_QUANTIZE)
        if bits != cls.model_fields["bits"].default and not is_fake(name):
            raise refusal(f"{name} has the bits of its dtype", [8])
        return bits

    @field_validator("axis")
    @classmethod
    def _axis_of_the_shape(cls, axis: int | None, info: ValidationInfo) -> int | None:
        if "name" not in info.data or "shape" not in info.data:
            return axis
        name, dims = info.data["name"], list(range(len(info.data["shape"])))
        if not is_per_channel(name) and axis is not None:
            raise refusal(f"{name} has no axis", [None])
        if is_per_channel(name) and axis not in dims:
            raise refusal(f"{name} needs the axis of its channels, from 0 to {dims[-1]}", dims)
        return axis

    @field_validator("scales", "zero_points")
    @classmethod
    def _one_a_channel(cls, each: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        if not {"name", "shape", "axis"} <= info.data.keys():
            return each
        name, axis = info.data["name"], info.data["axis"]
        if name == FAKE_QUANTIZE and each != cls.model_fields[info.field_name or ""].default:
            raise refusal("the observer of FakeQuantize finds scale and zero point: leave it out", None)
        most = info.data["shape"][axis] if axis is not None else 1
        if len(each) > most:
            raise refusal(f"{len(each)} are given for {most} of {name}", [f"length ≤ {most}"])
        return each

    @field_validator("zero_points")
    @classmethod
    def _zero_points_are_codes(cls, zero_points: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if not {"name", "dtype", "bits"} <= info.data.keys():
            return zero_points
        low, high = code_range(info.data["name"], info.data["dtype"], info.data["bits"])
        astray = [zero_point for zero_point in zero_points if not low <= zero_point <= high]
        if astray:
            raise refusal(f"zero point {astray[0]} is no code", [f"≥ {low}", f"≤ {high}"])
        return zero_points

    @field_validator("zero_point_dtype")
    @classmethod
    def _zero_points_are_tensors(
        cls, dtype: ZeroPointDtype | None, info: ValidationInfo
    ) -> ZeroPointDtype | None:
        if dtype is not None and info.data.get("name") in HOLDING_THEIR_OWN:
            raise refusal(f"{info.data['name']} holds its zero point in a dtype of its own", [None])
        return dtype

    @property
    def is_fake(self) -> bool:
        """Whether its result is real numbers on the grid of the codes, and it has a gradient."""
        return is_fake(self.name)

    @property
    def is_learnable(self) -> bool:
        """Whether scale and zero point have gradients."""
        return "learnable" in self.name

    @property
    def code_range(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return code_range(self.name, self.dtype, self.bits)

    @property
    def channels(self) -> int:
        """How many scales it takes."""
        return self.shape[self.axis] if self.axis is not None else 1

    @property
    def stored_zero_point(self) -> ZeroPointDtype:
        """The dtype of the zero points that it is called with."""
        return self.zero_point_dtype or ("float32" if self.is_learnable else "int32")

    @property
    def size_bytes(self) -> int:
        """Of its input in float32."""
        return math.prod(self.shape) * FLOAT32_BYTES

    @property
    def label(self) -> str:
        """Its name, and what is given that is not the default.

        >>> Operator(name="quantize_per_channel", shape=(3, 8), axis=0, scales=(1, 0.1)).label
        'quantize_per_channel 3×8 axis 0 scales 1,0.1'
        """
        given = self.model_dump(exclude={"name", "shape"}, exclude_defaults=True)
        words = (f"{name.replace('_', ' ')} {_words(value)}" for name, value in given.items())
        return " ".join([self.name, "×".join(map(str, self.shape)), *words])


def is_fake(name: str) -> bool:
    """Whether an operator quantizes and dequantizes in one, in float32."""
    return name == FAKE_QUANTIZE or name.startswith("fake_quantize")


def is_per_channel(name: str) -> bool:
    """Whether an operator has a scale for each index along an axis."""
    return "per_channel" in name


def code_range(name: str, dtype: Dtype, bits: int) -> tuple[int, int]:
    """The lowest and the highest code.

    >>> code_range("fake_quantize_per_tensor_affine", "qint8", 4)
    (-8, 7)
    """
    if not is_fake(name):
        bits = QINT32_BITS if dtype == "qint32" else 8
    return (0, 2**bits - 1) if dtype == "quint8" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def refusal(message: str, accepted: list[Any] | None) -> PydanticCustomError:
    """What a field of an operator is refused with."""
    context = {} if accepted is None else {"accepted": accepted}
    return PydanticCustomError("operator", message, context)


def _words(value: object) -> str:
    if isinstance(value, tuple | list):
        return ",".join(f"{item:g}" for item in value)
    return str(value)
