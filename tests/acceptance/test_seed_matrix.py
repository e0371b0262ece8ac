"""The seed matrix through a real service, on both databases, and through `run`: one set of figures."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.service import EXAMPLES, ROOT, LiveService

SEED_MATRIX = str(EXAMPLES / "seed_matrix.yaml")
EXPECTED = {
    ("multiple-ops", "static", "per_tensor", "float32->true"): 41.496,
    ("multiple-ops", "static", "per_channel", "float32->true"): 39.976,
    ("multiple-ops-no-avgpool", "qat", "per_tensor", "float32->fake"): 36.365,
    ("multiple-ops-no-avgpool", "qat", "per_tensor", "fake->true"): None,
    ("multiple-ops-no-avgpool", "weight_only", "per_tensor", "float32->fake"): 48.796,
    ("multiple-ops-no-avgpool", "activation_only", "per_tensor", "float32->fake"): 39.932,
}


def cli(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), **environment},
    )


def figures(cells: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What was measured, by what identifies it; ids and durations left out."""
    return {
        (cell["ordinal"], cell["lane"]["engine"], m["edge"], m["place"]): {
            name: value for name, value in m.items() if name not in {"id", "series"}
        }
        for cell in cells
        for m in cell["measurements"]
    }


@pytest.fixture(scope="module")
def measured(live: LiveService) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The matrix, measured by the service."""
    job = live.wait(live.submit(SEED_MATRIX)["id"])
    return job, live.cells(job["id"])


def test_every_figure_is_that_of_pytorchs_own_tests(
    measured: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    import torch

    job, cells = measured
    assert (job["status"], job["verdict"]) == ("done", "pass")
    engines = set(torch.backends.quantized.supported_engines) - {"none"}
    seen = set()
    for cell in cells:
        if cell["lane"]["engine"] not in engines:
            assert cell["status"] == "unsupported"
            continue
        assert cell["executed_engine"] == cell["lane"]["engine"]
        for m in cell["measurements"]:
            scheme = cell["scheme"]
            key = (cell["subject"]["zoo"], scheme["mode"], scheme["granularity"], m["edge"])
            if EXPECTED[key] is None:
                assert m["figure"] == {"value": None, "kind": "exact"}
            else:
                assert m["figure"]["value"] == pytest.approx(EXPECTED[key], abs=1e-3)
            seen.add((key, cell["lane"]["engine"]))
    assert len(seen) == len(EXPECTED) * len(engines)


def test_run_and_the_service_agree_to_the_last_digit(
    measured: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    ran = cli("run", SEED_MATRIX, "--format", "json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["verdict"] == "pass"
    assert figures(report["cells"]) == figures(measured[1])


def test_the_repro_command_of_a_cell_repeats_its_figure(
    measured: tuple[dict[str, Any], list[dict[str, Any]]], tmp_path: Path
) -> None:
    cell = measured[1][9]
    script = tmp_path / "noisefloor"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m noisefloor.cli "$@" --format json\n')
    script.chmod(0o755)
    ran = subprocess.run(
        ["sh", "-c", cell["repro"]],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    (again,) = json.loads(ran.stdout)["cells"]
    assert list(figures([{**again, "ordinal": 9}]).items()) == list(figures([cell]).items())


def test_gate_and_show_tell_the_verdict(
    live: LiveService, measured: tuple[dict[str, Any], list[dict[str, Any]]]
) -> None:
    job_id = measured[0]["id"]
    gate = cli("gate", job_id, "--url", live.url)
    assert gate.returncode == 0, gate.stderr
    assert "verdict:  pass (24 pass)" in gate.stdout
    waited = cli("wait", job_id, "--url", live.url)
    assert waited.returncode == 0, waited.stderr
    assert "41.496" in waited.stdout
    shown = cli("show", job_id, "--url", live.url, "--format", "json")
    assert figures(json.loads(shown.stdout)["cells"]) == figures(measured[1])


def test_trend_prints_the_history(live: LiveService, measured: object) -> None:
    del measured
    lines = cli("trend", "--url", live.url, "--engine", "x86", "--scheme", "eager static per_tensor")
    assert "41.496" in lines.stdout, lines.stderr


def test_a_job_below_its_floor_exits_with_1_and_says_by_how_much(live: LiveService, tmp_path: Path) -> None:
    document = yaml.safe_load(Path(SEED_MATRIX).read_text())
    document["subjects"] = document["subjects"][:1]
    document["subjects"][0]["schemes"][0]["floor_db"] = 50
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(document))
    submitted = cli("submit", str(path), "--url", live.url, "--wait")
    assert submitted.returncode == 1, submitted.stderr
    assert "41.496 dB is 8.504 dB below the floor of 50.000 dB" in submitted.stdout
    assert "reproduce: printf" in submitted.stdout
    job_id = re.findall(r"jobs/([0-9a-f]+)", submitted.stdout)[0]
    assert cli("wait", job_id, "--url", live.url).returncode == 0
    gate = cli("gate", job_id, "--url", live.url)
    assert gate.returncode == 1
    assert "8.504 dB below the floor" in gate.stdout
    assert cli("run", str(path)).returncode == 1


def test_a_first_job_under_a_largest_drop_exits_with_3_and_the_second_with_0(
    live: LiveService, tmp_path: Path
) -> None:
    document = yaml.safe_load(Path(SEED_MATRIX).read_text())
    document["subjects"] = document["subjects"][:1]
    del document["subjects"][0]["schemes"][0]["floor_db"]
    document |= {"policy": {"rules": {"max_drop_db": 0.5}}}
    codes = []
    for number in range(2):
        document["git"] = {"branch": f"main-{live.database[:6]}", "sha": f"{number:040x}"}
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(document))
        codes.append(cli("submit", str(path), "--url", live.url, "--wait").returncode)
    assert codes == [3, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\nlane: {}", "did you mean 'lanes'"),
        ("{", "is not YAML or JSON"),
        ("[1]", "(whole)"),
    ],
)
def test_a_bad_job_file_is_told_in_words_and_exits_with_2(text: str, said: str) -> None:
    for verb in ("run", "submit"):
        refused = cli(verb, "-", stdin=text)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_service_that_is_not_there_is_told_in_words() -> None:
    refused = cli("show", "0" * 26, "--url", "http://127.0.0.1:9")
    assert refused.returncode == 2
    assert "no service answers" in refused.stderr
