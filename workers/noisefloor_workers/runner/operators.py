"""The bench of operators: accuracy against the published formula, and what a call costs."""

import time
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.benchmark import Operator
from noisefloor.contract.figure import Figure, FigureKind
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import KERNEL, TIES, CellResult, CellTask, Measurement
from noisefloor.contract.scheme import OPS, Edge, Mode
from noisefloor.contract.subject import Subject
from noisefloor_workers.flows import ops
from noisefloor_workers.lanes.engine import Unsupported, bound
from noisefloor_workers.numerics.affine import ties
from noisefloor_workers.numerics.compare import compare
from noisefloor_workers.numerics.leaves import StructureMismatch, pairs
from noisefloor_workers.runner.metrics import plugin_measurements
from noisefloor_workers.subjects import data
from noisefloor_workers.subjects.operands import Operands, operands

MIN_RUN_TIME_S = 0.2
BYTES_PER_GB = 1e9
DEPRECATED = "torch.quantize_per_tensor, torch.quantize_per_channel and other"


def measure(task: CellTask, *, subject: Subject, operator: Operator, analysis: Analysis) -> CellResult:
    """Run one cell of an operator. What goes wrong is raised. Of an analysis, it has a use for `metrics`."""
    started_s = time.monotonic()
    mode, lane = task.scheme.mode, task.lane
    _require_support(task, operator)
    with bound(lane) as engine, torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=DEPRECATED, category=UserWarning)
        drawn = operands(operator, subject.seeds.evaluation)
        call = ops.call(operator, mode, drawn.to(lane.device))
        measurements: list[Measurement] = []
        for edge in task.scheme.edges:
            given, is_to_formula = call.operands, edge != "fake->true"
            ref = ops.formula(operator, mode, given) if is_to_formula else call.result
            actual = call.result if is_to_formula else ops.true_of_fake(operator, given)
            measurements += _accuracy(edge, mode, given, ref=ref, actual=actual)
            measurements += plugin_measurements(analysis.metrics, edge, ref=ref, actual=actual)
            if is_to_formula:
                measurements += _cost(edge, call, lane.threads)
    return CellResult(
        cell=task.cell,
        status=CellStatus.DONE,
        executed_engine=engine,
        inputs_digest=data.digest(drawn.x, drawn.upstream, drawn.scale, drawn.zero_point),
        duration_s=time.monotonic() - started_s,
        measurements=tuple(measurements),
    )


def _require_support(task: CellTask, operator: Operator) -> None:
    scheme, lane = task.scheme, task.lane
    if scheme.flow != OPS:
        raise Unsupported(f"an operator is measured with the flow {OPS}, not with {scheme.flow}")
    if lane.engine not in ops.ENGINES:
        raise Unsupported(f"{OPS} does not run on engine {lane.engine}; it runs on: {', '.join(ops.ENGINES)}")
    offered = ops.edges(operator, scheme.mode)
    astray = [edge for edge in scheme.edges if edge not in offered]
    if astray:
        raise Unsupported(
            f"{operator.name} {scheme.mode} has no edge {astray[0]}; it has: {', '.join(offered)}"
        )


def _accuracy(
    edge: Edge, mode: Mode, given: Operands, *, ref: ops.Result, actual: ops.Result
) -> Iterator[Measurement]:
    """SQNR, how many elements differ, how many of those on a tie, and by how many steps at most."""
    is_forward = mode == "forward"
    step = given.scale.item() if is_forward and given.axis is None else None
    for measured in compare(edge=edge, ref=ref, actual=actual, step=step, batch=len(given.x)):
        # zero throughout is a warning of a model's output; of an operator it may be what the formula says
        meant = measured.figure.kind is FigureKind.EXACT
        yield measured.replace(sums=None) if meant else measured
    found = pairs(ref=ref, actual=actual)
    if isinstance(found, StructureMismatch):
        return
    for number, pair in enumerate(found):
        if not isinstance(pair.ref, Tensor) or not isinstance(pair.actual, Tensor):
            continue
        differs = pair.ref != pair.actual
        yield _share(edge, pair.place, differs)
        scale = given.qparams["scale"].cpu()
        if number == 0:
            yield from _at_ties(edge, differs, ties(given.x.cpu(), scale=scale))
        if is_forward:
            largest = ((pair.ref.double() - pair.actual.double()).abs() / scale.double()).max().item()
            yield Measurement(edge=edge, place=pair.place, metric="max_lsb", figure=Figure.finite(largest))


def _at_ties(edge: Edge, differs: Tensor, on_tie: Tensor) -> Iterator[Measurement]:
    if on_tie.any():
        yield _share(edge, TIES, differs[on_tie])


def _share(edge: Edge, place: str, differs: Tensor) -> Measurement:
    share = int(differs.sum()) / differs.numel()
    return Measurement(edge=edge, place=place, metric="differing_share", figure=Figure.finite(share))


def _cost(edge: Edge, call: ops.Call, threads: int) -> Iterator[Measurement]:
    """The time of a call by torch's own benchmark, and the bandwidth that follows from it."""
    timed = Timer("run()", globals={"run": call.run}, num_threads=threads).blocked_autorange(
        min_run_time=MIN_RUN_TIME_S
    )
    figures = {
        "time_median_s": timed.median,
        "time_iqr_s": timed.iqr,
        "bandwidth_gb_per_s": call.size_bytes / BYTES_PER_GB / timed.median,
    }
    for metric, value in figures.items():
        yield Measurement(edge=edge, place=KERNEL, metric=metric, figure=Figure.finite(value))
