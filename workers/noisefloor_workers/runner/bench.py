"""Measuring the cells of one subject, with whatever they share computed once.

Over engines are shared: the data, the float32 and float64 outputs, the calibrated model, and the outputs of
`fake` and `reference`. Only conversion and the run of `true` belong to an engine.
"""

import copy
import time
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.figure import Figure
from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Engine
from noisefloor.contract.measurement import CellResult, CellTask, Measurement
from noisefloor.contract.scheme import Edge, Quantization, Variant, ends
from noisefloor_workers.flows import Flow
from noisefloor_workers.lanes.engine import Unsupported, bound
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.runner.calibration import Calibration
from noisefloor_workers.runner.explain import Explained, explain
from noisefloor_workers.runner.forward import forward
from noisefloor_workers.runner.metrics import plugin_measurements
from noisefloor_workers.runner.noise import noise
from noisefloor_workers.subjects.load import LoadedSubject

CUDA_ENGINES: tuple[Engine, ...] = ("aten",)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the variants of a cell gave, untapped, and the quantized models themselves."""

    of: dict[Variant, object]
    models: dict[Variant, nn.Module]
    step: float | None


class Bench:
    """A loaded subject with its float32 reference."""

    def __init__(self, subject: LoadedSubject, analysis: Analysis) -> None:
        self._subject = subject
        self._analysis = analysis
        self._float32 = forward(subject.model, subject.evaluation)

    def calibration(self, quantization: Quantization) -> Calibration:
        return Calibration(quantization, self._subject)

    def measure(self, task: CellTask, calibration: Calibration) -> CellResult:
        """Run one cell. What goes wrong is raised."""
        started_s = time.monotonic()
        edges = task.scheme.edges
        _require_support(task, calibration.flow)
        with bound(task.lane) as engine:
            outputs = self._outputs(task, calibration)
            measurements = {edge: self._compared(edge, outputs) for edge in edges}
            explained = self._explained(task, calibration, outputs, measurements)
        return CellResult(
            cell=task.cell,
            status=CellStatus.DONE,
            executed_engine=engine,
            inputs_digest=self._subject.inputs_digest,
            duration_s=time.monotonic() - started_s,
            measurements=(
                *(m for of_edge in measurements.values() for m in of_edge),
                *calibration.facts(),
                *_facts_of_true(calibration, outputs),
            ),
            layers=explained.layers,
            sensitivity=explained.sensitivity,
        )

    def _outputs(self, task: CellTask, calibration: Calibration) -> Outputs:
        """The output of each variant that the edges name."""
        needed = {variant for edge in task.scheme.edges for variant in ends(edge)}
        calibration.calibrated()
        found: dict[Variant, object] = {Variant.FLOAT32: self._float32}
        models: dict[Variant, nn.Module] = {}
        step = None
        if Variant.FLOAT64 in needed:
            found[Variant.FLOAT64] = self._float64
        for variant in needed & {Variant.FAKE, Variant.REFERENCE}:
            models[variant] = calibration.model(variant, task.lane)
            found[variant] = calibration.output(variant, task.lane)
        if Variant.TRUE in needed:
            true = models[Variant.TRUE] = calibration.model(Variant.TRUE, task.lane)
            found[Variant.TRUE] = forward(true, self._subject.evaluation)
            with torch.no_grad():
                step = calibration.flow.output_step(true, self._subject.evaluation)
        return Outputs(of=found, models=models, step=step)

    def _compared(self, edge: Edge, outputs: Outputs) -> tuple[Measurement, ...]:
        ref, actual = ends(edge)
        measured = compare(
            edge=edge,
            ref=outputs.of[ref],
            actual=outputs.of[actual],
            step=outputs.step if actual is Variant.TRUE else None,
            batch=self._subject.evaluation.batch,
        )
        of_plugins = plugin_measurements(
            self._analysis.metrics, edge, ref=outputs.of[ref], actual=outputs.of[actual]
        )
        if ref is Variant.FLOAT64:
            return (*measured, *of_plugins)
        measured = tuple(m.replace(own_floor=self._own_floors.get(m.place)) for m in measured)
        if not self._analysis.measures_noise:
            return (*measured, *of_plugins)
        found = noise(
            edge,
            ref=outputs.of[ref],
            model=outputs.models[actual],
            inputs=self._subject.evaluation,
            analysis=self._analysis,
        )
        return (measured[0].replace(noise=found), *measured[1:], *of_plugins)

    def _explained(
        self,
        task: CellTask,
        calibration: Calibration,
        outputs: Outputs,
        measurements: dict[Edge, tuple[Measurement, ...]],
    ) -> Explained:
        def measured_with(edge: Edge, float_layers: tuple[str, ...]) -> Figure:
            kept = (*calibration.quantization.float_layers, *float_layers)
            mixed = self.calibration(calibration.quantization.replace(float_layers=kept))
            model = mixed.model(ends(edge)[1], task.lane)
            output = forward(model, self._subject.evaluation)
            return compare(edge=edge, ref=self._float32, actual=output)[0].figure

        return explain(
            analysis=self._analysis,
            calibration=calibration,
            lane=task.lane,
            inputs=self._subject.evaluation,
            outputs=outputs.of,
            models=outputs.models,
            figures={edge: measured[0].figure for edge, measured in measurements.items()},
            measured_with=measured_with,
        )

    @cached_property
    def _float64(self) -> object:
        model = copy.deepcopy(self._subject.model).to(torch.float64)
        return forward(model, self._subject.evaluation.to(torch.float64))

    @cached_property
    def _own_floors(self) -> dict[str, Figure]:
        """What float32 can resolve at each place; nothing where a model cannot run in double precision."""
        try:
            found = compare(edge="float64->float32", ref=self._float64, actual=self._float32)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - a model may raise anything; its figures stand
            return {}
        return {measurement.place: measurement.figure for measurement in found}


def _facts_of_true(calibration: Calibration, outputs: Outputs) -> tuple[Measurement, ...]:
    true = outputs.models.get(Variant.TRUE)
    return () if true is None else calibration.flow.facts_of_true(true)


def _require_support(task: CellTask, flow: Flow) -> None:
    quantization, lane = task.scheme.quantization, task.lane
    on_cpu = lane.device == "cpu"
    engines = flow.engines if on_cpu else CUDA_ENGINES
    if lane.engine not in engines:
        engine = lane.engine if on_cpu else f"{lane.engine} of {lane.device}"
        raise Unsupported(
            f"{quantization.flow} does not run on engine {engine}; it runs on: {', '.join(engines)}"
        )
    refusal = flow.supports(quantization, task.scheme.edges)
    if refusal is not None:
        raise Unsupported(refusal)
    if lane.engine not in flow.engines and any(Variant.TRUE in ends(edge) for edge in task.scheme.edges):
        raise Unsupported(
            f"{quantization.flow} has kernels on the CPU alone, those of: {', '.join(flow.engines)}; on "
            f"{lane.device} it has no variant true: measure an edge to fake or to reference"
        )
