"""`noisefloor conformance`, in a process of its own. What is right or wrong here is the machine's."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch

from noisefloor.contract.conformance import CONFORMANCE, Conformance, Verdict
from noisefloor_workers.conformance.operators import OPERATORS

ENGINES = [engine for engine in torch.backends.quantized.supported_engines if engine != "none"]
SHOWN = ("linear*", "conv_transpose?d")
# scripts that are run, of all faults: each takes an import of torch
SAMPLE = 6


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "conformance", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", params=SHOWN)
def ran(request: pytest.FixtureRequest) -> subprocess.CompletedProcess[str]:
    return run("--op", request.param, "--quick", "--isa", "native", "--format", "json")


@pytest.fixture(scope="module")
def found(ran: subprocess.CompletedProcess[str]) -> list[Conformance]:
    assert ran.returncode in {0, 1}, ran.stderr
    return CONFORMANCE.validate_json(ran.stdout)


def test_each_operator_stands_there_once_on_each_engine(found: list[Conformance]) -> None:
    glob = next(glob for glob in SHOWN if fnmatch(found[0].op, f"quantized::{glob}"))
    wanted = [(op, engine) for op in OPERATORS if fnmatch(op, f"*::{glob}") for engine in ENGINES]
    assert sorted((one.op, one.engine) for one in found) == sorted(wanted)


def test_the_exit_code_says_whether_there_is_a_new_fault(
    ran: subprocess.CompletedProcess[str], found: list[Conformance]
) -> None:
    assert ran.returncode == int(any(one.is_new_fault for one in found))


def test_a_known_fault_is_no_reason_to_fail_and_is_named(found: list[Conformance]) -> None:
    """What torch 2.13 gets wrong is in our own list, for every processor."""
    assert all(one.known is not None for one in found if one.verdict.is_fault)


def test_more_that_is_known_is_read_from_a_file(tmp_path: Path) -> None:
    """One that is misspelt is named; a fault that is not there has gone away."""
    known = tmp_path / "known.yaml"
    issue = {"engine": list(ENGINES), "torch": ">=2", "reason": "relu was upside down"}
    known.write_text(json.dumps([{**issue, "op": ["aten::relu", "aten::reul"]}]))
    ended = run("--op", "aten::relu", "--quick", "--isa", "native", "--engine", ENGINES[0], "--known", known)
    assert ended.returncode == 0
    assert f"aten::relu on {ENGINES[0]}, native: gone: relu was upside down" in ended.stdout
    assert "'aten::reul' matches no operator" in ended.stderr
    assert "quantized::" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "- {op: [relu], engine: [fbgem], torch: '>=2', reason: why}",
            "0.engine.0 = 'fbgem': Input should be 'qnnpack'",
        ),
        ("- [", "is not YAML or JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_known_issues_that_is_refused_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    known = tmp_path / "known.yaml"
    if text is not None:
        known.write_text(text)
    ended = run("--op", "relu", "--quick", "--known", known)
    assert ended.returncode == 2
    assert f"{known}" in ended.stdout + ended.stderr
    assert said in ended.stdout + ended.stderr


def test_every_fault_has_figures_and_a_script_that_shows_it_with_torch_alone(
    found: list[Conformance], tmp_path: Path
) -> None:
    faults = [one for one in found if one.verdict.is_fault]
    assert not [one for one in found if one.script is not None and one not in faults]
    assert all(one.script for one in faults)
    faults = faults[:: -(-len(faults) // SAMPLE) or 1]
    scripts = [one.script or "" for one in faults]
    with ThreadPoolExecutor(2) as two:
        shown = list(
            two.map(lambda number: shows(scripts[number], tmp_path / str(number)), range(len(faults)))
        )
    for one, shows_it in zip(faults, shown, strict=True):
        assert one.wrong_cases > 0
        assert shows_it, f"{one.op} on {one.engine} is {one.verdict}\n{one.script}"


def shows(script: str, path: Path) -> bool:
    """Whether the script, alone in a new process, ends as a fault does."""
    path.write_text(script)
    bare = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    ended = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=bare,
    )
    assert "Error" not in ended.stderr, ended.stderr
    return ended.returncode != 0


def test_seven_bits_never_saturate(found: list[Conformance]) -> None:
    """A linear layer whose activations use 7 bits is right under every instruction set."""
    for one in found:
        if one.op.startswith("quantized::linear") and one.verdict is Verdict.WRONG:
            assert one.case is not None
            assert one.case.values in {"full", "extreme"}


def test_json_is_what_the_issue_asks_for(ran: subprocess.CompletedProcess[str]) -> None:
    document: list[dict[str, Any]] = json.loads(ran.stdout)
    keys = {
        "known",
        "gone",
        "values",
        "op",
        "engine",
        "isa",
        "verdict",
        "cases",
        "wrong_cases",
        "worst_db",
        "max_lsb",
        "wrong_share",
    }
    assert all(keys | {"script", "reason"} <= set(one) for one in document)


def test_the_human_form_has_a_row_for_each_operator() -> None:
    ended = run("--op", "relu*", "--quick", "--isa", "native", "--engine", ENGINES[0])
    assert ended.returncode in {0, 1}, ended.stderr
    rows = [line.split() for line in ended.stdout.splitlines()]
    assert ["operator", ENGINES[0]] in rows
    assert [row[0] for row in rows if row and "relu" in row[0]][:2] == ["aten::relu", "quantized::relu6"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--engine", "fbgem"), "qnnpack"),
        (("--isa", "avx"), "sse41"),
        (("--op", "nothing*", "--isa", "native"), "no operator matches"),
        (("--op", "relu", "--isa", "sse41", "--engine", "fbgemm"), "below AVX2"),
    ],
)
def test_what_cannot_run_ends_with_2(arguments: tuple[str, ...], said: str) -> None:
    ended = run(*arguments, "--quick")
    assert ended.returncode == 2
    assert said in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
