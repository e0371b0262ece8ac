"""The seed matrix against the scripts it replaces, side by side in one run.

The scripts run cell by cell, as test suites do: each builds its model and data, runs the float reference,
calibrates, and converts for one engine. Noisefloor walks the same cells with what they share computed once.
Both run in this process, with torch imported and warm, on one thread; rounds alternate.

Prints the ratio of each round and its median. The figures of both sides are compared as well.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.ao import quantization as ao

from noisefloor import plan
from noisefloor.contract.analysis import Analysis
from noisefloor.contract.job import JobSpec
from noisefloor.contract.measurement import CellTask
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.zoo import ZOO

ROUNDS = 7
ONLY_FIGURES = Analysis(layers=False)  # what the scripts measure; float32's own floor comes on top
FUSED = [["conv1", "bn1", "relu1"]]
Figures = dict[tuple[str, str, str], float]


def sqnr_db(ref: torch.Tensor, actual: torch.Tensor) -> float:
    """The scripts' own formula, in float32."""
    return float(20 * torch.log10(torch.norm(ref) / torch.norm(ref - actual)))


def data(calibration: int, evaluation: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform images."""
    return torch.rand(calibration, 3, 15, 15), torch.rand(evaluation, 3, 15, 15)


def static(seed: int, qconfig: Any, calibration: int, evaluation: int) -> float:
    """Float against true quantization."""
    torch.manual_seed(seed)
    model = ZOO["multiple-ops"]().eval()
    seen, used = data(calibration, evaluation)
    reference = model(used)
    wrapped = ao.QuantWrapper(model).eval()
    wrapped.qconfig = qconfig
    ao.fuse_modules(wrapped.module, FUSED, inplace=True)
    ao.prepare(wrapped, inplace=True)
    wrapped(seen)
    ao.convert(wrapped, inplace=True)
    return sqnr_db(reference, wrapped(used))


def trained(model: nn.Module, qconfig: Any, seen: torch.Tensor) -> nn.Module:
    """A fake-quantized model whose observers have seen the data."""
    wrapped = ao.QuantWrapper(model).train()
    wrapped.qconfig = qconfig
    ao.fuse_modules_qat(wrapped.module, FUSED, inplace=True)
    ao.prepare_qat(wrapped, inplace=True)
    wrapped.eval()
    wrapped.apply(ao.disable_fake_quant)
    wrapped.apply(torch.ao.nn.intrinsic.qat.freeze_bn_stats)
    wrapped(seen)
    wrapped.apply(ao.enable_fake_quant)
    return wrapped.apply(ao.disable_observer)


def fake_and_true() -> tuple[float, bool]:
    """Float against fake quantization; whether true equals fake bit by bit."""
    torch.manual_seed(67)
    model = ZOO["multiple-ops-no-avgpool"]().eval()
    seen, used = data(2048, 10)
    reference = model(used)
    wrapped = trained(model, ao.default_qat_qconfig, seen)
    fake = wrapped(used)
    ao.convert(wrapped, inplace=True)
    return sqnr_db(reference, fake), torch.equal(fake, wrapped(used))


def one_sided(qconfig: Any) -> float:
    """Float against weight-only or activation-only fake quantization."""
    torch.manual_seed(67)
    seen, used = data(2048, 10)
    model = ZOO["multiple-ops-no-avgpool"]().eval()
    reference = model(used)
    return sqnr_db(reference, trained(model, qconfig, seen)(used))


def scripts(engines: Sequence[str]) -> Figures:
    """Every cell by itself, on every engine."""
    figures: Figures = {}
    for engine in engines:
        torch.backends.quantized.engine = engine
        figures[engine, "static", "per_tensor"] = static(42, ao.default_qconfig, 1024, 1)
        figures[engine, "static", "per_channel"] = static(67, ao.default_per_channel_qconfig, 2048, 10)
        fake, exact = fake_and_true()
        figures[engine, "qat", "per_tensor"] = fake if exact else float("nan")
        figures[engine, "weight_only", "per_tensor"] = one_sided(ao.default_weight_only_qconfig)
        figures[engine, "activation_only", "per_tensor"] = one_sided(ao.default_activation_only_qconfig)
    return figures


def noisefloor(spec: JobSpec) -> Figures:
    """The same cells through the shard walk of the runner."""
    figures: Figures = {}
    for shard in plan.shards(plan.cells(spec)):
        cells = {str(cell.ordinal): cell for cell in shard.cells}
        tasks = tuple(CellTask(cell=name, scheme=c.scheme, lane=c.lane) for name, c in cells.items())
        task = ShardTask(subject=shard.cells[0].subject, cells=tasks, analysis=ONLY_FIGURES)
        for event in walk(task):
            if isinstance(event, CellFinished) and event.result.measurements:
                cell = cells[event.result.cell]
                figure = event.result.measurements[0].figure.value
                key = (cell.lane.engine, cell.scheme.mode, cell.scheme.granularity)
                figures[key] = figure if figure is not None else float("nan")
    return figures


def timed_s(run: Callable[[], Figures]) -> tuple[float, Figures]:
    """Seconds by the process's CPU clock, which other processes do not stretch as they do the wall's."""
    started_s = time.process_time()
    figures = run()
    return time.process_time() - started_s, figures


def main() -> None:
    """Print both sides and their ratio."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    example = Path(__file__).parents[1] / "examples" / "seed_matrix.yaml"
    spec = JobSpec.model_validate(yaml.safe_load(example.read_text()))
    engines = [engine for engine in spec.lanes.engine if engine in torch.backends.quantized.supported_engines]
    spec = spec.replace(lanes=spec.lanes.replace(engine=tuple(engines)))
    expected = scripts(engines)
    measured = noisefloor(spec)
    worst_db = max(abs(expected[key] - measured[key]) for key in expected)
    print(f"engines: {', '.join(engines)}; largest difference between the two sides: {worst_db:.1e} dB")
    ratios = []
    for number in range(1, ROUNDS + 1):
        theirs_s, _ = timed_s(lambda: scripts(engines))
        ours_s, _ = timed_s(lambda: noisefloor(spec))
        ratios.append(ours_s / theirs_s)
        print(f"round {number}: scripts {theirs_s:.3f} s, noisefloor {ours_s:.3f} s, ratio {ratios[-1]:.3f}")
    print(f"median ratio noisefloor / scripts: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
