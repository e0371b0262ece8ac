"""What a cell's run yields: measurements, the environment, and how the cell ended."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from noisefloor.contract.base import (
    BuiltInOrPlugin,
    Digest,
    LongText,
    Text,
    Untrue,
    Value,
    Word,
    contradiction,
)
from noisefloor.contract.conformance import Conformance
from noisefloor.contract.conformance import Verdict as KernelVerdict
from noisefloor.contract.figure import MAX_DB, MAX_FIGURE, Figure, beyond
from noisefloor.contract.files import Files
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane, Threads
from noisefloor.contract.layers import LayerReport, Sensitivity
from noisefloor.contract.scheme import Edge, Scheme
from noisefloor.contract.sums import Sums

# Beside sqnr_db, which is of outputs: facts of a quantized graph, at the place GRAPH, and of an operator, of
# which what a call costs stands at the place KERNEL and is never judged; and what conformance found.
METRICS = {
    "sqnr_db": "SQNR, dB",
    "quantize_nodes_unfolded": "quantize operations before constants are folded",
    "dequantize_nodes_unfolded": "dequantize operations before constants are folded",
    "quantize_nodes": "quantize operations",
    "dequantize_nodes": "dequantize operations",
    "weights_folded": "constants that are stored quantized",
    "coverage": "share of what could be quantized that is",
    "lowered": "share of the quantized operations that run as quantized kernels",
    "save_load_db": "SQNR after saving and loading, dB",
    "training_ops": "batch norms and dropouts that behave as in training",
    "prepare_s": "time to prepare, s",
    "convert_s": "time to convert, s",
    "differing_share": "share of elements that differ",
    "max_lsb": "largest difference, LSB",
    "time_median_s": "median time of a call, s",
    "time_iqr_s": "interquartile range of a call's time, s",
    "bandwidth_gb_per_s": "tensors in and out, each once, in the median time, GB/s",
    "wrong_cases": "cases that are wrong, not deterministic, or end the process",
    "wrong_share": "share of elements that are wrong",
    "worst_db": "lowest SQNR of a wrong case, dB",
}
SHARES = frozenset({"coverage", "lowered", "differing_share", "wrong_share"})
# The longest ending comes first: a bandwidth ends in _s too
UNITS = {"_gb_per_s": " GB/s", "_lsb": " LSB", "_db": " dB", "_s": " s"}
Metric = Annotated[str, BuiltInOrPlugin(*METRICS, max_length=32)]
ROUNDING_DB = 1e-6
MAX_EXPONENT = 1100  # of two: those of float64 are -1074 to 1024
SQNR = "sqnr_db"
WRONG_CASES = "wrong_cases"
OUTPUT = "output"
GRAPH = "graph"
TIES = "ties"
KERNEL = "kernel"


def unit(metric: str) -> str:
    """What stands behind a metric's number, with the space before it; empty for a count or a share.

    >>> unit("sqnr_db"), unit("bandwidth_gb_per_s"), unit("coverage")
    (' dB', ' GB/s', '')
    """
    return next((written for ending, written in UNITS.items() if metric.endswith(ending)), "")


def amount(figure: Figure, metric: str = SQNR) -> str:
    """A figure without its unit: dB to three decimals, what may be of any size with four digits.

    >>> amount(Figure.finite(41.4964)), amount(Figure.finite(0.00012345), "time_median_s")
    ('41.496', '0.0001234')
    """
    return str(figure) if figure.value is None or unit(metric) == " dB" else f"{figure.value:.4g}"


def quantity(figure: Figure, metric: str = SQNR) -> str:
    """A figure with its unit, or why it is no number.

    >>> quantity(Figure.finite(41.4964)), quantity(Figure.finite(2.0), "wrong_cases")
    ('41.496 dB', '2')
    """
    return amount(figure, metric) + (unit(metric) if figure.value is not None else "")


def bounds(metric: str) -> tuple[float, float]:
    """The least and the most that a metric can be.

    >>> bounds("sqnr_db"), bounds("coverage"), bounds("max_lsb"), bounds("acme.entropy")
    ((-20000.0, 20000.0), (0.0, 1.0), (0.0, 1e+100), (-1e+100, 1e+100))
    """
    if unit(metric) == " dB":
        return -MAX_DB, MAX_DB
    if metric in SHARES:
        return 0.0, 1.0
    return (0.0 if metric in METRICS else -MAX_FIGURE), MAX_FIGURE


def _out_of(metric: str) -> str:
    return "no ratio of two float64 is that many dB" if unit(metric) == " dB" else f"no {metric} is that"


class Extreme(Value):
    """The worst slice along one axis: its index and its SQNR in dB."""

    index: Annotated[int, Field(ge=0)]
    sqnr_db: Figure


class Spread(Value):
    """How the error is spread over an output, beside the pooled figure.

    `lsb` counts elements by their difference in units of the output's quantization step, rounded and
    clipped to ±LSB_CLIP; a difference of one at a tie is not a kernel bug.
    """

    worst_sample: Extreme | None = None
    worst_channel: Extreme | None = None
    p5_sample_db: Figure | None = Field(default=None, description="5th percentile of SQNR over samples, dB")
    lsb: dict[Annotated[int, Field(ge=-8, le=8)], int] | None = None


class Noise(Value):
    """How far a figure moves when nothing is changed: over repeated runs, and over thread counts."""

    runs: Annotated[int, Field(ge=1)]
    threads: tuple[Threads, ...]
    lowest: Figure
    highest: Figure
    distinct_outputs: Annotated[int, Field(ge=1)] = Field(description="by their bytes")

    @property
    def spread_db(self) -> float | None:
        """Highest less lowest, in dB; zero where every run gave the same; None where it is no number."""
        if self.lowest == self.highest:
            return 0.0
        if self.lowest.value is None or self.highest.value is None:
            return None
        return self.highest.value - self.lowest.value


class Measurement(Value):
    """One metric of one edge at one place, typed."""

    edge: Edge
    place: Text = Field(default=OUTPUT, description="`output` is pooled over all leaves of the output")
    metric: Metric = SQNR
    figure: Figure
    sums: Sums | None = None
    spread: Spread | None = None
    match_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="share of equal elements, for integer and bool outputs"
    )
    note: Text | None = Field(default=None, description="what differs, where the kind is mismatch")
    output_digest: Digest | None = Field(default=None, description="of the actual output's bytes")
    own_floor: Figure | None = Field(
        default=None, description="SQNR in dB of float32 against float64 here: what float32 can resolve"
    )
    noise: Noise | None = None

    def untrue(self) -> Iterator[Untrue]:
        """What no instrument measures."""
        low, high = bounds(self.metric)
        value = self.figure.value
        if value is not None and not low <= value <= high:
            yield Untrue("figure.value", _out_of(self.metric), value, [f"{low:g} to {high:g}"])
        for name in ("spread", "own_floor", "noise"):
            yield from beyond(getattr(self, name), MAX_DB, name)
        if self.spread is not None and min((self.spread.lsb or {}).values(), default=0) < 0:
            yield Untrue("spread.lsb", "counts are no less than zero", str(self.spread.lsb), ["≥ 0"])
        if self.sums is not None:
            yield from self._against(self.sums)

    def _against(self, sums: Sums) -> Iterator[Untrue]:
        """Where the figure is not that of the sums. An instrument that is wrong once is not trusted again."""
        for name in ("ref_exp", "actual_exp", "err_exp"):
            if abs(getattr(sums, name)) > MAX_EXPONENT:
                accepted = [f"within ±{MAX_EXPONENT}"]
                yield Untrue(f"sums.{name}", "no float64 has it", getattr(sums, name), accepted)
                return
        told, said = sums.sqnr_db(), self.figure
        apart_db = abs((told.value or 0.0) - (said.value or 0.0))
        if self.metric == SQNR and (told.kind is not said.kind or apart_db > ROUNDING_DB):
            message = f"the sums beside it give {_exactly(told)}"
            yield Untrue("figure", message, _exactly(said), [_exactly(told)])


def _exactly(figure: Figure) -> str:
    return figure.kind.value if figure.value is None else repr(figure.value)


class Environment(Value):
    """What the figures depend on beside the code: shown whole, never part of a series' key."""

    torch: Text
    torchao: Text | None = None
    onednn: Text | None = None
    python: Text
    cpu: Text
    isa: Text = Field(description="the instruction set that torch uses, after any cap")
    isa_cap: Text = "native"
    threads: int
    os: Text
    machine: Text
    gpu: Text | None = Field(default=None, description="its name, where the cell ran on cuda; so below")
    compute_capability: Text | None = None
    cuda: Text | None = Field(default=None, description="version that torch was built for")
    driver: Text | None = None
    cudnn: Text | None = None
    tf32: bool | None = Field(default=None, description="whether torch may round float32 factors to TF32")
    deterministic: bool | None = Field(default=None, description="deterministic algorithms alone")
    cudnn_benchmark: bool | None = None
    plugins: dict[Text, Text] = Field(
        default_factory=dict, description="versions of the packages whose plugins the cell used, by package"
    )


class CellTask(Value):
    """A cell as a runner takes it."""

    cell: Text
    scheme: Scheme
    lane: Lane


class CellResult(Value):
    """A cell as a runner gives it back."""

    cell: Text
    status: CellStatus
    reason: LongText | None = None
    traceback: LongText | None = None
    environment: Environment | None = None
    executed_engine: Word | None = None
    inputs_digest: Digest | None = None
    duration_s: Annotated[float, Field(ge=0)] = 0.0
    measurements: tuple[Measurement, ...] = ()
    layers: tuple[LayerReport, ...] = ()
    sensitivity: Sensitivity | None = None
    conformance: Conformance | None = Field(default=None, description="of an operator")
    files: Files | None = Field(
        default=None, description="of a subject of the worker's own files, where the job names a commit"
    )

    @model_validator(mode="after")
    def _has_ended(self) -> Self:
        if not self.status.ended:
            raise ValueError("a result is of a cell that has ended")
        return self

    @model_validator(mode="after")
    def _is_true(self) -> Self:
        for found in self.untrue():
            raise contradiction(*found)
        return self

    def untrue(self) -> Iterator[Untrue]:
        """What no runner finds."""
        for number, measurement in enumerate(self.measurements):
            yield from (found.below(f"measurements.{number}") for found in measurement.untrue())
        yield from beyond(self.layers, MAX_DB, "layers")
        yield from beyond(self.sensitivity, MAX_DB, "sensitivity")
        if self.conformance is not None:
            yield from (found.below("conformance") for found in self.conformance.untrue())
            yield from self._against(self.conformance)

    def _against(self, kernel: Conformance) -> Iterator[Untrue]:
        """Where the cell does not say what was found of its kernel."""
        if kernel.verdict is KernelVerdict.UNSUPPORTED and self.status is CellStatus.DONE:
            yield Untrue("conformance.verdict", "the cell is done", kernel.verdict.value)
        for number, measurement in enumerate(self.measurements):
            counted = measurement.metric == WRONG_CASES
            if counted and measurement.figure.value != kernel.wrong_cases:
                message = f"{kernel.wrong_cases} cases of the kernel are wrong"
                yield Untrue(f"measurements.{number}.figure", message, str(measurement.figure))
