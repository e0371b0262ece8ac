"""Cells on CUDA: what is refused, and what holds. What needs a GPU is skipped where there is none."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from noisefloor.contract.analysis import Analysis
from noisefloor.contract.job import CellStatus
from noisefloor.contract.measurement import CellResult, CellTask
from noisefloor.contract.subject import Subject
from noisefloor_workers.flows import Unsupported
from noisefloor_workers.lanes.device import driver_version
from noisefloor_workers.lanes.environment import environment
from noisefloor_workers.runner.bench import Bench
from noisefloor_workers.runner.link import environment_for
from noisefloor_workers.runner.messages import CellFinished, ShardTask
from noisefloor_workers.runner.outcome import ended_by
from noisefloor_workers.runner.supervisor import Runner
from noisefloor_workers.runner.walk import walk
from noisefloor_workers.subjects.load import load

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, :UserWarning"),  # will go
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch's own, on copies of graphs
]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")

DATA = {"calibration": {"shape": [16, 3, 15, 15]}, "evaluation": {"shape": [8, 3, 15, 15]}}
IMAGES = {"zoo": "multiple-ops", "data": DATA}
SMALL = {"calibration": {"shape": [16, 4]}, "evaluation": {"shape": [8, 4]}}
FAKE = {"flow": "eager", "mode": "qat", "edge": "float32->fake"}
PT2E = {"flow": "pt2e", "mode": "static", "granularity": "per_channel"}
TORCHAO = {"flow": "torchao", "mode": "weight_only"}
WEIGHTS = {**TORCHAO, "edge": "float32->true"}
# Every flow on the one engine of cuda, up to where it has kernels there
SCHEMES: list[dict[str, Any]] = [
    FAKE,
    {"flow": "eager", "mode": "weight_only", "edge": "float32->fake"},
    {"flow": "eager", "mode": "activation_only", "edge": "float32->fake"},
    {"flow": "fx", "mode": "static", "edge": "float32->reference"},
    {"flow": "fx", "mode": "dynamic", "edge": "float32->reference"},
    {"flow": "fx", "mode": "qat", "edges": ["float32->fake", "fake->reference"]},
    {"flow": "minmax_fx", "mode": "static", "edge": "float32->reference"},
    {**PT2E, "edge": "float32->reference"},
    {**PT2E, "mode": "dynamic", "edge": "float32->reference"},
    {**PT2E, "mode": "qat", "edges": ["float32->fake", "fake->reference"]},
    {**TORCHAO, "edges": ["float32->reference", "reference->true"]},
    {**TORCHAO, "mode": "dynamic", "edges": ["float32->reference", "reference->true"]},
]


def cell(scheme: dict[str, Any], **lane: Any) -> dict[str, Any]:
    return {"cell": "only", "scheme": scheme, "lane": {"engine": "aten", **lane}}


def task(*cells: dict[str, Any], subject: dict[str, Any] = IMAGES) -> ShardTask:
    return ShardTask.model_validate({"subject": subject, "cells": cells})


def walked(of: ShardTask) -> list[CellResult]:
    return [event.result for event in walk(of) if isinstance(event, CellFinished)]


def measured_here(scheme: dict[str, Any], **lane: Any) -> CellResult:
    """On the CPU, whatever the lane says: what a cell is refused for is asked before anything runs."""
    of = CellTask.model_validate(cell(scheme, threads=torch.get_num_threads(), **lane))
    bench = Bench(load(Subject.model_validate(IMAGES)), Analysis(layers=False))
    return bench.measure(of, bench.calibration(of.scheme.quantization))


def test_a_process_measures_on_one_device() -> None:
    assert task(cell(FAKE, device="cuda")).device == "cuda"
    assert task(cell(FAKE)).device == "cpu"
    with pytest.raises(ValidationError, match="a process measures on one device"):
        task(cell(FAKE), cell(FAKE, device="cuda"))


@without_cuda
@pytest.mark.parametrize("scheme", [FAKE, WEIGHTS])
def test_cuda_that_is_not_there_is_unsupported_before_the_subject_is_loaded(scheme: dict[str, Any]) -> None:
    absent = {"import": "nothing.that.exists:made", "data": DATA}
    (ended,) = walked(task(cell(scheme, device="cuda"), subject=absent))
    assert ended.status is CellStatus.UNSUPPORTED
    assert (ended.reason or "").startswith("torch sees no CUDA device")
    assert ended.environment == environment()


@without_cuda
def test_a_child_without_cuda_says_so_too(runner: Runner) -> None:
    (ended,) = runner.run(task(cell(FAKE, device="cuda")), lambda _: True)
    assert ended.status is CellStatus.UNSUPPORTED
    assert (ended.reason or "").startswith("torch sees no CUDA device")


@pytest.mark.parametrize(
    ("scheme", "lane", "reason"),
    [
        (FAKE, {"engine": "x86"}, "eager does not run on engine x86 of cuda; it runs on: aten"),
        (
            WEIGHTS,
            {"engine": "inductor"},
            "torchao does not run on engine inductor of cuda; it runs on: aten",
        ),
        (
            {"flow": "eager", "mode": "static", "edge": "float32->true"},
            {},
            "eager has kernels on the CPU alone, those of: qnnpack, onednn, x86, fbgemm; on cuda it has no",
        ),
        ({**PT2E, "edge": "reference->true"}, {}, "pt2e has kernels on the CPU alone, those of: inductor, x"),
        (FAKE, {"isa": "avx2"}, "isa avx2 is a cap on the CPU: isa native is the only one on cuda"),
    ],
)
def test_what_has_no_kernels_on_cuda_is_refused_with_what_there_is(
    scheme: dict[str, Any], lane: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        measured_here(scheme, device="cuda", **lane)
    assert caught.value.reason.startswith(reason)


def test_the_engine_of_cuda_is_no_engine_of_the_flow_on_the_cpu() -> None:
    with pytest.raises(Unsupported, match="eager does not run on engine aten; it runs on: qnnpack"):
        measured_here(FAKE)


@pytest.mark.parametrize("scheme", [FAKE, SCHEMES[3], WEIGHTS])
def test_what_needs_no_kernels_of_the_cpu_is_let_through(scheme: dict[str, Any]) -> None:
    before = torch.backends.quantized.engine
    result = measured_here(scheme, device="cuda")
    assert (result.status, result.executed_engine) == (CellStatus.DONE, "aten")
    assert torch.backends.quantized.engine == before


ARITHMETIC = """
import torch
from noisefloor_workers.lanes.device import arithmetic, only_float32_and_deterministic

torch.backends.cudnn.benchmark = True
assert arithmetic() == {"tf32": True, "deterministic": False, "cudnn_benchmark": True}, arithmetic()
only_float32_and_deterministic()
assert arithmetic() == {"tf32": False, "deterministic": True, "cudnn_benchmark": False}, arithmetic()
assert "tf32" not in {torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision}
torch.backends.cuda.matmul.allow_tf32 = True
assert arithmetic()["tf32"]
"""


def in_a_process(script: str) -> None:
    """Torch's own test library, which other tests use, forbids its process to set these flags."""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_arithmetic_is_held_and_read_back_from_torch() -> None:
    in_a_process(ARITHMETIC)


def test_an_operation_without_a_deterministic_kernel_is_unsupported() -> None:
    torch.use_deterministic_algorithms(mode=True)
    try:
        with pytest.raises(RuntimeError) as caught:  # torch's own words, which the CPU has too
            torch.zeros(4).put_(torch.tensor([0, 0]), torch.ones(2))
    finally:
        torch.use_deterministic_algorithms(mode=False)
    ended = ended_by(caught.value, cell="only", environment=environment(), duration_s=0)
    assert ended.status is CellStatus.UNSUPPORTED
    assert ended.reason == "put_ has no deterministic kernel on this device, and no other is measured"


def test_a_full_device_is_out_of_memory() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    ended = ended_by(error, cell="only", environment=environment(), duration_s=0)
    assert ended.status is CellStatus.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 2023\nGCC version: 12.3\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.129.03  Release Build  (root@b)\n",
    ],
)
def test_driver_is_what_its_kernel_module_says(tmp_path: Path, line: str) -> None:
    (tmp_path / "version").write_text(line)
    assert driver_version(tmp_path / "version") == "535.129.03"
    assert driver_version(tmp_path / "absent") is None


SERVER_IMPORTS = """
import torch

def started(*_arguments, **_named):
    raise SystemExit("CUDA was started in the process that forks")

for name in ("init", "is_available", "device_count", "_lazy_init", "current_device", "get_device_properties"):
    setattr(torch.cuda, name, started)
torch._C._cuda_init = torch._C._cuda_getDeviceCount = started

from noisefloor_workers.runner.child import live
"""


def test_the_process_that_forks_never_asks_for_cuda() -> None:
    in_a_process(SERVER_IMPORTS)


def test_the_server_asks_without_starting_cuda_and_sees_the_devices_it_may_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    found = environment_for("native", 1)
    assert found["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    assert found["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert found["CUDA_VISIBLE_DEVICES"] == "3"


# On a GPU


def on_gpu(runner: Runner, scheme: dict[str, Any], **changes: Any) -> CellResult:
    of = ShardTask.model_validate({"subject": IMAGES, "cells": [cell(scheme, device="cuda")], **changes})
    (ended,) = runner.run(of, lambda _: True)
    return ended


def headline(of: CellResult) -> Any:
    return next(m for m in of.measurements if m.place == "output")


@needs_cuda
@pytest.mark.parametrize("scheme", SCHEMES)
def test_cell_on_cuda_gives_what_it_gives_on_the_cpu(runner: Runner, scheme: dict[str, Any]) -> None:
    found = on_gpu(runner, scheme)
    assert found.status is CellStatus.DONE, found.traceback
    here = measured_here(scheme, device="cuda")
    assert headline(found).figure.value == pytest.approx(headline(here).figure.value, abs=1)


@needs_cuda
def test_environment_of_a_cell_on_cuda_has_the_gpu_and_how_it_computes(runner: Runner) -> None:
    found = on_gpu(runner, FAKE)
    assert found.environment is not None
    assert found.environment.gpu == torch.cuda.get_device_name()
    assert found.environment.cuda == torch.version.cuda
    held = found.environment.tf32, found.environment.deterministic, found.environment.cudnn_benchmark
    assert held == (False, True, False)


@needs_cuda
def test_figures_on_cuda_are_those_of_the_run_before_to_the_bit(runner: Runner) -> None:
    digests = {headline(on_gpu(runner, FAKE)).output_digest for _ in range(2)}
    assert len(digests) == 1
    noisy = headline(on_gpu(runner, FAKE, analysis={"repeats": 3})).noise
    assert noisy.distinct_outputs == 1


@needs_cuda
def test_layers_on_cuda_are_reported(runner: Runner) -> None:
    (report,) = on_gpu(runner, FAKE).layers
    assert report.unavailable is None
    assert report.matched_share == 1


@needs_cuda
def test_float8_runs_where_the_gpu_has_it(runner: Runner) -> None:
    scheme = {**WEIGHTS, "mode": "dynamic", "weight_dtype": "float8_e4m3fn"}
    found = on_gpu(runner, scheme)
    if torch.cuda.get_device_capability() < (8, 9):
        assert found.status is CellStatus.UNSUPPORTED
        assert "requires CUDA compute capability" in (found.reason or "")
    else:
        assert found.status is not CellStatus.FAILED, found.traceback


@needs_cuda
def test_int4_has_a_kernel_for_float32_on_the_cpu_alone(runner: Runner) -> None:
    how = {"granularity": "per_channel", "weight_dtype": "int4"}
    data = {"calibration": {"shape": [4, 32]}, "evaluation": {"shape": [4, 32]}}
    subject = {"import": "torch.nn:Linear", "args": {"in_features": 32, "out_features": 16}, "data": data}
    found = on_gpu(runner, {**WEIGHTS, **how}, subject=subject, import_allow=["torch.nn"])
    assert found.status is CellStatus.UNSUPPORTED
    assert "on CPU" in (found.reason or "")


@needs_cuda
def test_memory_of_the_device_is_under_the_cells_limit(runner: Runner) -> None:
    hoarding = {"import": "subjects_under_test.misbehaving:build", "data": SMALL}
    subject = {**hoarding, "args": {"deed": "eats_gpu", "engine": "any"}}
    limits, allowed = {"memory_gib": 1}, ["subjects_under_test"]
    found = on_gpu(runner, FAKE, subject=subject, import_allow=allowed, limits=limits)
    assert found.status is CellStatus.OUT_OF_MEMORY, found.reason
