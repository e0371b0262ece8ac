"""Measuring the cells of one subject, with whatever they share computed once.

Over engines are shared: the data, the float32 and float64 outputs, the calibrated model, and the outputs of
`fake` and `reference`. Only conversion and the run of `true` belong to an engine.
"""

import copy
import time

import torch
from torch import nn

from noisefloor.contract.job import CellStatus
from noisefloor.contract.lane import Lane
from noisefloor.contract.measurement import CellResult, CellTask, Measurement
from noisefloor.contract.scheme import Quantization, Variant, ends
from noisefloor_workers.flows import Calibrated, Flow, flow_named
from noisefloor_workers.lanes.engine import Unsupported, bound
from noisefloor_workers.lanes.environment import environment
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.subjects.inputs import ModelInputs
from noisefloor_workers.subjects.load import LoadedSubject

FORWARD_SEED = 0


class Calibration:
    """One quantization of the subject: calibrated at the first need, and not again after it failed."""

    def __init__(self, quantization: Quantization, subject: LoadedSubject) -> None:
        self.quantization = quantization
        self._subject = subject
        self._calibrated: Calibrated | None = None
        self._failure: BaseException | None = None
        self._outputs: dict[Variant, object] = {}

    @property
    def flow(self) -> Flow:
        return flow_named(self.quantization.flow)

    def calibrated(self) -> Calibrated:
        if self._failure is not None:
            raise self._failure
        if self._calibrated is None:
            try:
                with torch.no_grad():
                    self._calibrated = self.flow.calibrate(
                        self._subject.model, self.quantization, self._subject.calibration
                    )
            except BaseException as error:
                self._failure = error
                raise
        return self._calibrated

    def output(self, variant: Variant, lane: Lane) -> object:
        """The output of a variant that no engine takes part in."""
        if variant not in self._outputs:
            model = self.flow.variant(self.calibrated(), variant, lane)
            self._outputs[variant] = forward(model, self._subject.evaluation)
        return self._outputs[variant]


class Bench:
    """A loaded subject with its float32 reference."""

    def __init__(self, subject: LoadedSubject) -> None:
        self._subject = subject
        self._float32 = forward(subject.model, subject.evaluation)
        self._float64: object = None

    def calibration(self, quantization: Quantization) -> Calibration:
        return Calibration(quantization, self._subject)

    def measure(self, task: CellTask, calibration: Calibration) -> CellResult:
        """Run one cell. What goes wrong is raised."""
        started_s = time.monotonic()
        flow = calibration.flow
        if task.lane.engine not in flow.engines:
            raise Unsupported(
                f"{calibration.quantization.flow} does not run on engine {task.lane.engine}; "
                f"it runs on: {', '.join(flow.engines)}"
            )
        refusal = flow.supports(calibration.quantization, task.scheme.edges)
        if refusal is not None:
            raise Unsupported(refusal)
        with bound(task.lane) as engine:
            outputs, step = self._outputs(task, calibration)
        measurements: list[Measurement] = []
        for edge in task.scheme.edges:
            ref, actual = ends(edge)
            measurements += compare(
                edge=edge,
                ref=outputs[ref],
                actual=outputs[actual],
                step=step if actual is Variant.TRUE else None,
                batch=self._subject.evaluation.batch,
            )
        return CellResult(
            cell=task.cell,
            status=CellStatus.DONE,
            environment=environment(),
            executed_engine=engine,
            inputs_digest=self._subject.inputs_digest,
            duration_s=time.monotonic() - started_s,
            measurements=tuple(measurements),
        )

    def _outputs(
        self, task: CellTask, calibration: Calibration
    ) -> tuple[dict[Variant, object], float | None]:
        """The output of each variant that the edges name, and the step of `true`'s output."""
        needed = {variant for edge in task.scheme.edges for variant in ends(edge)}
        calibrated = calibration.calibrated()
        outputs: dict[Variant, object] = {Variant.FLOAT32: self._float32}
        step = None
        if Variant.FLOAT64 in needed:
            outputs[Variant.FLOAT64] = self._float64_output()
        for variant in needed & {Variant.FAKE, Variant.REFERENCE}:
            outputs[variant] = calibration.output(variant, task.lane)
        if Variant.TRUE in needed:
            true = calibration.flow.variant(calibrated, Variant.TRUE, task.lane)
            outputs[Variant.TRUE] = forward(true, self._subject.evaluation)
            with torch.no_grad():
                step = calibration.flow.output_step(true, self._subject.evaluation)
        return outputs, step

    def _float64_output(self) -> object:
        if self._float64 is None:
            model = copy.deepcopy(self._subject.model).to(torch.float64)
            self._float64 = forward(model, self._subject.evaluation.to(torch.float64))
        return self._float64


def forward(model: nn.Module, inputs: ModelInputs) -> object:
    """One untapped pass, on a copy of the inputs and to a copy of the outputs.

    A model may work on its input in place, or give out a buffer that its next pass overwrites. The generator
    is set, so that a model that draws numbers gives the same ones whichever cells ran before.
    """
    torch.manual_seed(FORWARD_SEED)
    with torch.no_grad():
        output: object = inputs.fed_to(model)
        try:
            return copy.deepcopy(output)
        except (TypeError, RuntimeError, copy.Error):
            # an output that holds what cannot be copied can be compared nevertheless
            return output
