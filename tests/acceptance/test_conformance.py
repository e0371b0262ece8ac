"""Conformance as a job, with torch's own kernels: what is right or wrong here is the machine's."""

import json
import shlex
import subprocess
import sys
import time
from typing import Any

from tests.samples import operators
from tests.service import LiveService

from noisefloor.contract.conformance import Conformance
from noisefloor.contract.verdict import Verdict

CLI = [sys.executable, "-m", "noisefloor.cli"]
ENGINES = ["onednn", "x86", "inductor"]


def the_worst(found: list[dict[str, Any]]) -> str:
    """What the default policy says of these cells."""
    faults = [one for one in map(of_cell, found) if one.verdict.is_fault]
    if any(one.is_new_fault for one in faults):
        return Verdict.REGRESSED
    if any(cell["status"] == "unsupported" for cell in found):
        return Verdict.WARN
    return Verdict.ACKNOWLEDGED if faults else Verdict.PASS


def of_cell(cell: dict[str, Any]) -> Conformance:
    return Conformance.model_validate(cell["conformance"])


def test_a_job_on_operators_is_measured_recorded_judged_and_listed(live: LiveService) -> None:
    document = operators("quantized::cat*", lanes={"engine": ENGINES})
    settled = live.wait(live.submit(document, "kernels")["id"], "kernels")
    cells = live.cells(settled["id"], "kernels")
    assert [(cell["subject"]["conformance"], cell["lane"]["engine"]) for cell in cells] == [
        (op, engine) for op in ("quantized::cat", "quantized::cat_relu") for engine in ENGINES
    ]
    assert settled["verdict"] == the_worst(cells)
    for cell in cells:
        if cell["lane"]["engine"] == "inductor":
            assert (cell["status"], cell["conformance"]["verdict"]) == ("unsupported", "unsupported")
        elif cell["status"] == "done":
            assert cell["conformance"]["cases"] > 10
            assert cell["measurements"][0]["figure"]["value"] == cell["conformance"]["wrong_cases"]
    listed = live.http.get("/v1/conformance", params={"op": "cat*", "mode": "quick"}).json()["items"]
    assert {row["cell_id"] for row in listed} == {cell["id"] for cell in cells}


def test_the_repro_command_finds_the_same(live: LiveService) -> None:
    settled = live.wait(live.submit(operators("aten::relu", lanes={"engine": ["onednn"]}))["id"])
    (cell,) = live.cells(settled["id"])
    command = cell["repro"].replace("noisefloor run -", f"{shlex.join(CLI)} run - --format json")
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    again = json.loads(ran.stdout)
    assert again["verdict"] == settled["verdict"]
    assert again["cells"][0]["conformance"] == cell["conformance"]


def test_run_prints_a_row_for_each_cell() -> None:
    ran = subprocess.run(
        [*CLI, "run", "-"],
        input=json.dumps(operators("aten::relu", lanes={"engine": ["onednn", "inductor"]})),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    rows = [line.split() for line in ran.stdout.splitlines() if line.startswith("aten::relu  ")]
    assert [row[:3] for row in rows] == [["aten::relu", "conformance", "quick"]] * 2
    assert rows[0][3] == "reference->true:"


def test_a_killed_service_goes_on_where_it_was(database: str) -> None:
    """What was recorded before the kill is not run again, and nothing is recorded twice."""
    lanes = {"engine": ["qnnpack", "onednn", "x86", "fbgemm"]}
    with LiveService(database) as service:
        job_id = service.submit(operators("conv?d", lanes=lanes))["id"]
        before: dict[str, dict[str, Any]] = {}
        while len(before) < 3:
            time.sleep(0.05)
            before = {c["id"]: c for c in service.cells(job_id) if c["status"] != "queued"}
        service.process.kill()
        service.process.wait()
    with LiveService(database) as service:
        assert any(cell["status"] == "queued" for cell in service.cells(job_id))
        settled = service.wait(job_id)
        after = {cell["id"]: cell for cell in service.cells(job_id)}
        rows = service.http.get("/v1/conformance", params={"limit": 500}).json()["items"]
    assert settled["progress"]["ended"] == len(after) == 3 * 4
    same = ("status", "conformance", "duration_s", "inputs_digest")
    for cell_id, cell in before.items():
        assert [after[cell_id][name] for name in same] == [cell[name] for name in same]
    assert sorted(row["cell_id"] for row in rows) == sorted(after)
