"""`noisefloor lanes`, in a process of its own: what it says of this machine is what torch says."""

import json
import os
import platform
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from shutil import which
from typing import Any, get_args

import pytest
import torch

from noisefloor.contract.lane import Engine, Isa
from noisefloor.contract.support import Support
from noisefloor_workers.lanes.engine import CAPABILITY_UNDER
from noisefloor_workers.lanes.isa import machine_isas
from noisefloor_workers.tell import memory_bytes

HERE = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
# what an engine needs beside torch and torchao
NEEDS = {"inductor": which("g++"), "xnnpack": find_spec("executorch"), "aten": torch}
WORKING = {*HERE, *(engine for engine, found in NEEDS.items() if found)}
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("torch is not installed")
sys.meta_path.insert(0, Refuse())
"""
NO_SERVER_UNDER = """
import os, sys
if "noisefloor_workers.runner.server" in sys.orig_argv and os.environ.get("ATEN_CPU_CAPABILITY") in {caps}:
    os.write(2, b"libgomp.so.1 is broken")
    os._exit(1)
"""


def lanes(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The verb in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "lanes", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The whole matrix, as a program reads it."""
    ran = lanes("--format", "json")
    assert ran.returncode == 0, ran.stderr
    read: dict[str, Any] = json.loads(ran.stdout)
    return read


@pytest.fixture(scope="module")
def support(document: dict[str, Any]) -> Support:
    """The document as the contract reads it."""
    return Support.model_validate(document)


def test_every_engine_times_cap_stands_there_once_and_the_one_lane_of_cuda(support: Support) -> None:
    found = [(tried.lane.device, tried.lane.engine, tried.lane.isa) for tried in support.lanes]
    on_cpu = product(["cpu"], get_args(Engine), get_args(Isa))
    assert sorted(found) == sorted([*on_cpu, ("cuda", "aten", "native")])


def test_cuda_works_where_torch_has_it(support: Support) -> None:
    (tried,) = (tried for tried in support.lanes if tried.lane.device == "cuda")
    assert tried.works == torch.cuda.is_available()
    assert tried.works or (tried.reason or "").startswith("torch sees no CUDA device")
    assert (support.environments["native"].gpu is not None) == tried.works


def test_every_engine_that_torch_supports_works_natively_and_no_other(support: Support) -> None:
    native = [t for t in support.lanes if (t.lane.device, t.lane.isa) == ("cpu", "native")]
    assert {tried.lane.engine for tried in native if tried.works} == WORKING
    assert all(tried.executed_engine == tried.lane.engine for tried in native if tried.works)
    assert all(tried.figure is not None for tried in native if tried.works)


def test_every_no_has_its_reason(support: Support) -> None:
    for tried in support.lanes:
        assert tried.works or (tried.reason and tried.status is not None), tried


def test_a_cap_above_the_machine_is_a_no_that_names_what_it_has(support: Support) -> None:
    for tried in support.lanes:
        if tried.lane.isa not in machine_isas() and tried.lane.engine in HERE:
            assert not tried.works
            assert tried.reason is not None
            assert "native" in tried.reason


def test_torch_is_held_under_each_cap_that_was_tried(support: Support) -> None:
    worked = {tried.lane.isa for tried in support.lanes if tried.works}
    assert worked <= set(support.environments)
    for cap, found in support.environments.items():
        assert found.isa_cap == cap
        assert found.torch == torch.__version__
        assert cap not in CAPABILITY_UNDER or found.isa in CAPABILITY_UNDER[cap]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the cap belongs to x86-64")
def test_fbgemm_below_avx2_is_a_no_with_its_reason(support: Support) -> None:
    (tried,) = (t for t in support.lanes if (t.lane.engine, t.lane.isa) == ("fbgemm", "sse41"))
    assert not tried.works
    assert tried.reason is not None
    assert "fbgemm" in tried.reason


def test_the_human_form_names_the_cpu_and_lists_the_reasons(support: Support) -> None:
    # what is asked twice is tried once
    ran = lanes(
        "--isa", "native", "--isa", "sse41", "--engine", HERE[0], "--engine", "fbgemm", "--isa", "native"
    )
    assert ran.returncode == 0, ran.stderr
    assert support.environments["native"].cpu in ran.stdout.splitlines()[0]
    assert f"torch {torch.__version__}" in ran.stdout
    heading = next(line for line in ran.stdout.splitlines() if line.startswith("engine"))
    assert heading.split() == ["engine", "device", "native", "sse41"]
    reasons = {(t.lane.engine, t.lane.isa): t.reason for t in support.lanes}
    assert reasons["fbgemm", "sse41"] is not None
    assert f"fbgemm sse41: unsupported: {reasons['fbgemm', 'sse41']}" in ran.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_the_human_form_names_cuda_with_its_reason() -> None:
    ran = lanes("--isa", "native", "--engine", "aten")
    assert ran.returncode == 0, ran.stderr
    assert ["aten", "cuda", "no"] in [line.split() for line in ran.stdout.splitlines()]
    assert "aten cuda native: unsupported: torch sees no CUDA device" in ran.stdout


def test_where_a_runner_does_not_start_its_lanes_say_why_and_the_others_are_tried(tmp_path: Path) -> None:
    if "avx2" not in machine_isas():
        pytest.skip("no cap lies below this machine")
    (tmp_path / "sitecustomize.py").write_text(NO_SERVER_UNDER.format(caps={"avx2"}))
    asked = [f"--engine={engine}" for engine in HERE]
    ran = lanes("--isa", "native", "--isa", "avx2", "--format", "json", *asked, PYTHONPATH=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    found = Support.model_validate_json(ran.stdout)
    assert {t.lane.engine for t in found.lanes if t.works} == set(HERE)
    under = [t for t in found.lanes if t.lane.isa == "avx2"]
    assert len(under) == len(HERE)
    for tried in under:
        assert (tried.works, tried.status) == (False, None)
        assert tried.reason is not None
        assert "libgomp.so.1 is broken" in tried.reason


def test_a_machine_where_nothing_works_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_SERVER_UNDER.format(caps={None}))
    ran = lanes("--isa", "native", PYTHONPATH=str(tmp_path))
    assert ran.returncode == 2
    assert "no runner: " in ran.stdout
    assert "libgomp.so.1 is broken" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_without_torch_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TORCH)
    ran = lanes(PYTHONPATH=str(tmp_path))
    assert ran.returncode == 2
    assert "noisefloor[worker]" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "fbgem"), "qnnpack"),
        (("--isa", "avx"), "sse41"),
        (("--threads", "0"), "≥ 1"),
    ],
)
def test_a_lane_outside_the_contract_is_told_in_words(arguments: tuple[str, ...], said: str) -> None:
    ran = lanes(*arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_containers_limit_is_the_memory_that_a_worker_has(tmp_path: Path) -> None:
    said = {"max": "max\n", "limit": f"{2**30}\n"}
    for name, text in said.items():
        (tmp_path / name).write_text(text)
    whole = memory_bytes([tmp_path / "max", tmp_path / "none"])
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_bytes([tmp_path / "max", tmp_path / "limit"]) == 2**30
