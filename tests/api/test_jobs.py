"""Jobs and cells over HTTP, on both databases."""

import json
import threading

import httpx
import pytest
from sqlalchemy import Engine
from tests.conftest import serving
from tests.measuring import claimed, finish
from tests.samples import job, result

from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.settings import Settings
from noisefloor.store.session import writing

JOBS = "/v1/projects/demo/jobs"
ENGINES = ["qnnpack", "onednn", "x86", "fbgemm"]


def test_a_job_is_accepted_with_its_address(api: httpx.Client) -> None:
    answer = api.post(JOBS, json=job(name="first"))
    assert answer.status_code == 202
    posted = answer.json()
    assert answer.headers["Location"] == f"{JOBS}/{posted['id']}"
    assert (posted["status"], posted["verdict"], posted["progress"]["cells"]) == ("queued", "pending", 1)
    assert api.get(answer.headers["Location"]).json() == posted


def test_a_job_that_nobody_serves_says_what_it_waits_for(api: httpx.Client) -> None:
    assert "noisefloor up" in api.post(JOBS, json=job()).json()["progress"]["waiting_for"]


def test_a_repeated_key_is_one_job(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "abc"}
    first, second = (api.post(JOBS, json=job(), headers=headers).json() for _ in range(2))
    assert first == second
    assert len(api.get(JOBS).json()["items"]) == 1
    conflict = api.post(JOBS, json=job(name="other"), headers=headers)
    assert (conflict.status_code, conflict.json()["type"]) == (
        422,
        "urn:noisefloor:problem:idempotency-conflict",
    )


def test_the_same_key_from_many_clients_at_once_is_one_job(api: httpx.Client) -> None:
    api.post(JOBS, json=job())  # the project is there: making it would hold the others up
    for key in ("a", "b", "c"):
        answers: list[httpx.Response] = []
        barrier = threading.Barrier(8)

        def post(
            key: str = key, answers: list[httpx.Response] = answers, barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait()
            headers = {"Idempotency-Key": key}
            answers.append(httpx.post(f"{api.base_url}{JOBS}", json=job(), headers=headers, timeout=60))

        threads = [threading.Thread(target=post) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1


def test_lists_are_read_to_their_end_by_cursor(api: httpx.Client) -> None:
    posted = [api.post(JOBS, json=job(name=str(n))).json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        page = api.get(JOBS, params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    assert seen == posted[::-1]


def test_jobs_are_listed_by_status_and_branch(api: httpx.Client) -> None:
    api.post(JOBS, json=job(git={"branch": "main"}))
    topic = api.post(JOBS, json=job(git={"branch": "topic"})).json()["id"]
    assert [j["id"] for j in api.get(JOBS, params={"branch": "topic"}).json()["items"]] == [topic]
    assert api.get(JOBS, params={"status": "done"}).json()["items"] == []


def test_cells_show_figures_findings_and_the_command_that_repeats_them(
    api: httpx.Client, engine: Engine
) -> None:
    posted = api.post(JOBS, json=job(lanes={"engine": ENGINES})).json()
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    page = api.get(f"{JOBS}/{posted['id']}/cells", params={"limit": 3}).json()
    assert [cell["lane"]["engine"] for cell in page["items"]] == ENGINES[:3]
    (measurement,) = page["items"][0]["measurements"]
    assert measurement["figure"] == {"value": 41.5, "kind": "finite"}
    assert measurement["finding"]["verdict"] == "pass"
    assert page["items"][0]["repro"].endswith("| noisefloor run -")
    rest = api.get(f"{JOBS}/{posted['id']}/cells", params={"limit": 3, "cursor": page["next_cursor"]}).json()
    assert [cell["lane"]["engine"] for cell in rest["items"]] == ENGINES[3:]
    one = api.get(f"{JOBS}/{posted['id']}/cells/{page['items'][0]['id']}").json()
    assert one == page["items"][0]
    environment = api.get(f"/v1/environments/{one['environment']}").json()
    assert environment["document"]["torch"] == "2.13.0"


def test_layers_of_a_cell_are_told_apart(api: httpx.Client, engine: Engine) -> None:
    posted = api.post(JOBS, json=job()).json()
    figure = {"value": 40.0, "kind": "finite"}
    layer = Layer.model_validate({"name": "fc", "kind": "Linear", "cumulative": figure, "local": figure})
    report = LayerReport(edge="float32->true", layers=(layer,), matched_share=1.0, first_divergent="fc")
    with writing(engine, "test") as session:
        finish(session, claimed(session), lambda cell: result(cell, layers=(report,)))
    cells = f"{JOBS}/{posted['id']}/cells"
    (cell,) = api.get(cells).json()["items"]
    found = api.get(f"{cells}/{cell['id']}/layers").json()
    assert found["cell"] == cell["id"]
    assert [(r["edge"], r["first_divergent"]) for r in found["reports"]] == [("float32->true", "fc")]
    assert found["reports"][0]["layers"][0]["local"] == figure
    missing = api.get(f"{cells}/{'0' * 32}/layers")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:noisefloor:problem:not-found")


def test_wait_returns_when_the_job_is_settled(api: httpx.Client, engine: Engine) -> None:
    posted = api.post(JOBS, json=job()).json()
    waiting: list[httpx.Response] = []
    thread = threading.Thread(
        target=lambda: waiting.append(httpx.get(f"{api.base_url}{JOBS}/{posted['id']}?wait=60", timeout=90))
    )
    thread.start()
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    thread.join()
    assert waiting[0].json()["status"] == "done"
    assert api.get(f"{JOBS}/{posted['id']}", params={"wait": 0.01}).json()["verdict"] == "pass"


def test_wait_gives_up_after_its_seconds(api: httpx.Client) -> None:
    posted = api.post(JOBS, json=job()).json()
    assert api.get(f"{JOBS}/{posted['id']}", params={"wait": 0.3}).json()["status"] == "queued"


def test_events_tell_progress_and_end_with_the_verdict(api: httpx.Client, engine: Engine) -> None:
    posted = api.post(JOBS, json=job(lanes={"engine": ["x86", "onednn"]})).json()
    events = []
    with api.stream("GET", f"{JOBS}/{posted['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            if line.startswith("data: ") and len(events) == 1:
                assert json.loads(line.removeprefix("data: "))["progress"]["ended"] == 0
                with writing(engine, "test") as session:
                    finish(session, claimed(session))
    assert events[0] == "progress"
    assert events[-1] == "settled"


def test_waiting_requests_leave_room_for_others(api: httpx.Client) -> None:
    posted = api.post(JOBS, json=job()).json()
    address = f"{api.base_url}{JOBS}/{posted['id']}/events"
    with httpx.Client(timeout=60) as many:
        streams = [many.stream("GET", address) for _ in range(17)]
        opened = [stream.__enter__() for stream in streams]
        assert sorted({answer.status_code for answer in opened}) == [200, 503]
        assert api.get("/healthz").status_code == 200
        for stream in streams:
            stream.__exit__(None, None, None)


def test_cancel_and_retry(api: httpx.Client, engine: Engine) -> None:
    posted = api.post(JOBS, json=job()).json()
    path = f"{JOBS}/{posted['id']}"
    assert api.post(f"{path}/retry").json()["type"] == "urn:noisefloor:problem:conflict"
    assert api.post(f"{path}/cancel").json()["status"] == "cancelled"
    assert api.get(f"{path}/cells").json()["items"][0]["status"] == "cancelled"
    assert api.post(f"{path}/retry").json()["status"] == "queued"
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    assert api.get(path).json()["verdict"] == "pass"


@pytest.mark.parametrize(
    "path", [f"{JOBS}/{'0' * 26}", f"{JOBS}/{'0' * 26}/cells", f"/v1/environments/{'0' * 32}"]
)
def test_what_is_not_there_is_a_404(api: httpx.Client, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:noisefloor:problem:not-found")


def test_a_job_that_the_queue_has_no_room_for_is_asked_to_come_again(
    engine: Engine, settings: Settings
) -> None:
    with serving(settings.model_copy(update={"max_queued_cells": 3}), engine) as api:
        two = job(lanes={"engine": ["x86", "onednn"]})
        assert api.post(JOBS, json=two).status_code == 202
        refused = api.post(JOBS, json=two)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
        assert refused.json()["type"].endswith("queue-full")
        assert api.post(JOBS, json=job()).status_code == 202
