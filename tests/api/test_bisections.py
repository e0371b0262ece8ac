"""Bisections over HTTP, on both databases."""

from typing import Any

import httpx
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import imported, job, operators, small_data

from noisefloor.contract.bisection import MAX_COMMITS
from noisefloor.contract.job import PRIORITIES
from noisefloor.store.session import writing

BISECTIONS = "/v1/projects/demo/bisections"
JOBS = "/v1/projects/demo/jobs"
SHAS = [f"{number:040x}" for number in range(MAX_COMMITS + 1)]
LAYERS = {"over": "layers", "below_db": 30, "job": job()}
OPERATOR = {"operator": {"name": "quantize_per_tensor", "shape": [8]}}


def settled(api: httpx.Client, engine: Engine) -> str:
    """A job that lost nothing."""
    job_id: str = api.post(JOBS, json=job()).json()["id"]
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    return job_id


def test_a_bisection_is_accepted_with_its_address_and_its_first_step(api: httpx.Client) -> None:
    answer = api.post(BISECTIONS, json=LAYERS)
    assert answer.status_code == 202, answer.text
    posted = answer.json()
    assert answer.headers["Location"] == f"{BISECTIONS}/{posted['id']}"
    assert (posted["status"], posted["message"]) == ("running", "measuring all layers")
    assert "noisefloor up" in posted["waiting_for"]
    assert api.get(answer.headers["Location"], params={"wait": 0.1}).json() == posted
    assert api.get(BISECTIONS).json()["items"] == [posted]
    (step,) = posted["steps"]
    entered = api.get(f"{JOBS}/{step['job']}").json()
    assert entered["name"] == f"bisection of {posted['id']}: all layers"
    assert entered["spec"]["priority"] == PRIORITIES["bisect"]
    assert entered["spec"]["schemes"][0]["floor_db"] == {}


def test_a_repeated_key_is_one_bisection(api: httpx.Client) -> None:
    headers = {"Idempotency-Key": "abc"}
    first, second = (api.post(BISECTIONS, json=LAYERS, headers=headers).json() for _ in range(2))
    assert first == second
    assert len(api.get(BISECTIONS).json()["items"]) == 1
    conflict = api.post(BISECTIONS, json={**LAYERS, "below_db": 31}, headers=headers)
    assert conflict.status_code == 422
    assert conflict.json()["type"] == "urn:noisefloor:problem:idempotency-conflict"


def test_a_cancelled_bisection_ends_its_steps_and_may_be_cancelled_again(api: httpx.Client) -> None:
    posted = api.post(BISECTIONS, json=LAYERS).json()
    for _ in range(2):
        ended = api.post(f"{BISECTIONS}/{posted['id']}/cancel")
        assert (ended.status_code, ended.json()["status"]) == (202, "cancelled")
    (step,) = ended.json()["steps"]
    assert api.get(f"{JOBS}/{step['job']}").json()["status"] == "cancelled"


def test_what_cannot_be_bisected_names_the_field(api: httpx.Client, engine: Engine) -> None:
    model = imported("odd:build")
    of = settled(api, engine)
    several = job(subjects=[{"zoo": "multiple-ops", "data": small_data(), "args": {}}, OPERATOR])
    refused: list[tuple[dict[str, Any], str]] = [
        ({"over": "isa"}, "job"),
        ({"over": "isa", "job": job(), "of": of}, "of"),
        ({"over": "weeks", "job": job()}, "over"),
        ({"over": "layers", "job": job()}, "below_db"),
        ({"over": "isa", "job": job(), "commits": SHAS[:3]}, "commits"),
        ({"over": "commits", "job": model, "commits": SHAS[:1]}, "commits"),
        ({"over": "commits", "job": model, "commits": SHAS}, "commits"),
        ({"over": "commits", "job": model, "commits": [SHAS[0], SHAS[0]]}, "(whole)"),
        ({"over": "commits", "job": model}, "commits"),
        ({"over": "commits", "job": job(), "commits": SHAS[:3]}, "job"),
        ({"over": "commits", "job": model, "commits": SHAS[:3], "good": "a" * 40}, "good"),
        ({"over": "commits", "job": model, "commits": SHAS[:3], "bad": SHAS[0]}, "bad"),
        ({"over": "isa", "of": of}, "of"),
        ({"over": "isa", "job": job(), "series": "0" * 32}, "series"),
        ({**LAYERS, "job": several}, "job.schemes.0.flow"),
        ({**LAYERS, "job": {**job(), "subjects": [*job()["subjects"], *model["subjects"]]}}, "job"),
        ({**LAYERS, "job": operators("quantized::linear")}, "job"),
        (
            {**LAYERS, "job": job(subjects=[{**model["subjects"][0], "import": "os:system"}])},
            "job.subjects.0.import",
        ),
        ({"over": "environments", "job": job(lanes={"engine": ["x86"], "isa": ["native", "avx2"]})}, "job"),
    ]
    for document, field in refused:
        answer = api.post(BISECTIONS, json=document)
        assert answer.status_code == 422, (document, answer.text)
        problem = answer.json()
        assert field in [error["field"] for error in problem["errors"]], (document, problem)
        assert problem["detail"]
    assert api.get(BISECTIONS).json()["items"] == []


def test_what_is_not_there_or_not_ready_says_so(api: httpx.Client, engine: Engine) -> None:
    of = settled(api, engine)
    queued = api.post(JOBS, json=job()).json()["id"]
    answers = [
        (api.post(BISECTIONS, json={"over": "isa", "of": "0" * 26}), 404, "has no job"),
        (api.post(BISECTIONS, json={"over": "isa", "of": queued}), 409, "is queued"),
        (api.post(BISECTIONS, json={"over": "isa", "of": of}), 422, "lost nothing"),
        (api.post(BISECTIONS, json={"over": "isa", "job": job()}), 409, "no lane of the job"),
        (api.post(BISECTIONS, json={"over": "environments", "job": job()}), 409, "no environment"),
        (api.get(f"{BISECTIONS}/{'0' * 26}"), 404, "has no bisection"),
        (api.post(f"{BISECTIONS}/{'0' * 26}/cancel"), 404, "has no bisection"),
    ]
    for answer, status, said in answers:
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert said in answer.json()["detail"]
