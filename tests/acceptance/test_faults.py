"""Models that misbehave, and processes that die: typed ends, a service that stays up, every cell once."""

import os
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.samples import job, small_data
from tests.service import LiveService

STATIC = {"flow": "eager", "mode": "static", "edge": "float32->true"}


def misbehaving(factory: str, timeout_s: float = 60, **args: Any) -> dict[str, Any]:
    """A job on two engines; by default the model behaves on x86."""
    data = {"calibration": {"shape": [8, 4]}, "evaluation": {"shape": [2, 4]}}
    subject = {"import": f"subjects_under_test.misbehaving:{factory}", "args": args, "data": data}
    return job(
        subjects=[subject],
        schemes=[STATIC],
        lanes={"engine": ["onednn", "x86"]},
        limits={"cell_timeout_s": timeout_s, "memory_gib": 1},
    )


def ends(live: LiveService, document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """How each engine's cell ended."""
    settled = live.wait(live.submit(document)["id"])
    assert settled["status"] == "done"
    return {cell["lane"]["engine"]: cell for cell in live.cells(settled["id"])}


@pytest.mark.parametrize(
    ("deed", "status", "reason"),
    [
        ("raises", "failed", "ValueError: broken on purpose"),
        ("raises_dirt", "failed", "ValueError: nul"),
        ("eats", "out_of_memory", ""),
        ("kills_itself", "crashed", "SIGKILL"),
        ("leaves", "crashed", "code 0"),
        ("segfaults", "crashed", "SIGSEGV"),
        ("recurses", "failed", "RecursionError"),
    ],
)
def test_a_model_that_misbehaves_costs_its_cell_alone(
    live: LiveService, deed: str, status: str, reason: str
) -> None:
    found = ends(live, misbehaving("build", deed=deed, engine="onednn"))
    assert found["onednn"]["status"] == status
    assert reason in found["onednn"]["reason"]
    assert found["onednn"]["finding"]["verdict"] == "error"
    assert found["x86"]["status"] == "done"


def test_a_models_own_traceback_is_kept(live: LiveService) -> None:
    cell = ends(live, misbehaving("build", deed="raises", engine="onednn"))["onednn"]
    assert 'raise ValueError("broken on purpose")' in cell["traceback"]
    assert live.http.get(f"/v1/environments/{cell['environment']}").json()["document"]["torch"]


def test_a_model_that_loops_for_ever_is_ended(live: LiveService) -> None:
    found = ends(live, misbehaving("build", timeout_s=3, deed="loops", engine="onednn"))
    assert (found["onednn"]["status"], found["x86"]["status"]) == ("timed_out", "done")


def test_a_model_that_cannot_be_built_ends_every_cell_with_its_reason(live: LiveService) -> None:
    found = ends(live, misbehaving("build", deed="raises"))
    assert {cell["status"] for cell in found.values()} <= {"failed", "done"}
    found = ends(live, misbehaving("no_such_factory"))
    assert {cell["status"] for cell in found.values()} == {"failed"}
    assert "no_such_factory" in found["x86"]["reason"]


def test_weights_that_are_not_numbers_are_named_by_layer(live: LiveService) -> None:
    cell = ends(live, misbehaving("not_a_number"))["x86"]
    assert cell["status"] == "failed"
    assert "fc" in cell["reason"]


def test_data_that_are_not_finite_fail_with_the_reason(live: LiveService) -> None:
    data = small_data()
    data["evaluation"] |= {"low": -3e38, "high": 3e38}
    settled = live.wait(live.submit(job(subjects=[{"zoo": "multiple-ops", "data": data}]))["id"])
    (cell,) = live.cells(settled["id"])
    assert cell["status"] == "failed"
    assert "finite" in cell["reason"]


@pytest.mark.parametrize(
    ("scheme", "offered"),
    [
        ({"flow": "eager", "mode": "weight_only", "edge": "float32->true"}, "it has: float64, float32, fake"),
        ({"flow": "eager", "mode": "static", "edge": "float32->fake"}, "it has: float64, float32, true"),
        (
            {
                "flow": "eager",
                "mode": "activation_only",
                "granularity": "per_channel",
                "edge": "float32->fake",
            },
            "per_tensor",
        ),
    ],
)
def test_what_a_flow_cannot_do_is_unsupported_with_what_it_can(
    live: LiveService, scheme: dict[str, Any], offered: str
) -> None:
    settled = live.wait(live.submit(job(schemes=[scheme]))["id"])
    (cell,) = live.cells(settled["id"])
    assert cell["status"] == "unsupported"
    assert offered in cell["reason"]
    assert settled["verdict"] == "no_baseline"


def test_arguments_that_a_model_does_not_take_fail_with_the_reason(live: LiveService) -> None:
    subject = {"zoo": "multiple-ops", "args": {"depth": 3}, "data": small_data()}
    settled = live.wait(live.submit(job(subjects=[subject]))["id"])
    (cell,) = live.cells(settled["id"])
    assert cell["status"] == "failed"
    assert "depth" in cell["reason"]


def test_a_running_job_is_cancelled(live: LiveService) -> None:
    document = misbehaving("build", timeout_s=600, deed="loops", engine="onednn")
    job_id = live.submit(document)["id"]
    wait_until_running(live, job_id)
    live.http.post(f"/v1/projects/default/jobs/{job_id}/cancel")
    assert live.wait(job_id)["status"] == "cancelled"


def test_a_killed_runner_loses_no_cell_and_doubles_none(live: LiveService, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    job_id = live.submit(misbehaving("lingering", path=str(gate)))["id"]
    wait_until_running(live, job_id, doing="onednn")
    (child,) = runner_children(live.process.pid)
    os.kill(child, signal.SIGKILL)
    while child in runner_children(live.process.pid):
        time.sleep(0.05)
    gate.unlink()
    assert live.wait(job_id)["status"] == "done"
    cells = live.cells(job_id)
    assert Counter(cell["status"] for cell in cells) == {"done": 2}
    assert [len(cell["measurements"]) for cell in cells] == [1, 1]


def test_a_killed_service_loses_no_job_and_leaves_no_process(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    database = f"sqlite:///{tmp_path}/noisefloor.db"
    with LiveService(database) as service:
        job_id = service.submit(misbehaving("lingering", path=str(gate)))["id"]
        wait_until_running(service, job_id, doing="onednn")
        orphans = descendants(service.process.pid)
        assert len(orphans) >= 2
        service.process.kill()
        service.process.wait()
        while any(alive(pid) for pid in orphans):
            time.sleep(0.05)
    gate.unlink()
    with LiveService(database) as service:
        assert service.wait(job_id)["status"] == "done"
        assert Counter(cell["status"] for cell in service.cells(job_id)) == {"done": 2}
    with sqlite3.connect(tmp_path / "noisefloor.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_stopped_service_gives_its_shard_back_and_exits_cleanly(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    with LiveService(f"sqlite:///{tmp_path}/noisefloor.db") as service:
        job_id = service.submit(misbehaving("lingering", path=str(gate)))["id"]
        wait_until_running(service, job_id, doing="onednn")
    assert service.process.returncode == 0, service.log
    connection = sqlite3.connect(tmp_path / "noisefloor.db")
    assert connection.execute("SELECT status, tries FROM shards").fetchall() == [("queued", 0)]
    connection.close()


def wait_until_running(live: LiveService, job_id: str, doing: str = "") -> None:
    while True:
        seen = live.http.get(f"/v1/projects/default/jobs/{job_id}").json()
        if any(doing in line for line in seen["progress"]["running"]):
            return
        assert seen["status"] in {"queued", "running"}, seen
        time.sleep(0.05)


def parents() -> dict[int, int]:
    """The parent of every process that is there."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def descendants(pid: int) -> list[int]:
    known = parents()
    found = {pid}
    while more := {child for child, parent in known.items() if parent in found} - found:
        found |= more
    return sorted(found - {pid})


def runner_children(service: int) -> list[int]:
    """Processes below the service's runner servers."""
    known = parents()
    servers = {child for child, parent in known.items() if parent == service}
    return [child for child, parent in known.items() if parent in servers]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
