"""How urgent a suite's jobs are, and what meets a queue that is full."""

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine, select
from tests.api.test_hooks import deliver, hooks, jobs, keep
from tests.ci.events import again, gitlab_push, merge_request, pull_request, push, sha
from tests.ci.suites import GITLAB, GITLAB_PROJECT, with_secrets
from tests.conftest import serving
from tests.measuring import claimed, finish
from tests.samples import job, result

from noisefloor.contract.job import PRIORITIES
from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import reading, writing

JOBS = "/v1/projects/demo/jobs"
GATE, PLAIN = PRIORITIES["gate"], 50

__all__ = ["hooks"]  # a fixture


@pytest.fixture
def full(engine: Engine, settings: Settings) -> Iterator[httpx.Client]:
    """A service whose queue has no room left."""
    guarded = with_secrets(settings, max_queued_cells=1, token="s3cret", github_token=None, gitlab_token=None)
    with serving(guarded, engine) as client:
        client.headers["Authorization"] = "Bearer s3cret"
        assert client.post(JOBS, json=job()).status_code == 202
        yield client


def priorities(engine: Engine) -> list[int]:
    """Of all shards, in the order in which they were queued."""
    with reading(engine) as session:
        return list(session.scalars(select(tables.Shard.priority).order_by(tables.Shard.id)))


def test_what_a_merge_waits_for_is_urgent_and_a_push_is_not(hooks: httpx.Client, engine: Engine) -> None:
    keep(hooks)
    deliver(hooks, "push", push(sha(1), branch="master"))
    deliver(hooks, "pull_request", pull_request(sha(2)))
    assert priorities(engine) == [PLAIN, GATE]


def test_a_pushs_job_becomes_urgent_with_the_pull_request_of_its_commit(
    hooks: httpx.Client, engine: Engine
) -> None:
    keep(hooks)
    deliver(hooks, "push", push(branch="changes"))
    assert priorities(engine) == [PLAIN]
    assert deliver(hooks, "pull_request", pull_request())["suites"][0]["outcome"] == "known"
    assert priorities(engine) == [GATE]


def test_gitlabs_merge_requests_are_urgent(hooks: httpx.Client, engine: Engine) -> None:
    keep(hooks, provider="gitlab", repository=GITLAB_PROJECT)
    for event, document in (("Push Hook", gitlab_push()), ("Merge Request Hook", merge_request())):
        headers = {"X-Gitlab-Event": event, "X-Gitlab-Token": "token", "X-Gitlab-Event-UUID": event[:4]}
        assert httpx.post(f"{hooks.base_url}{GITLAB}", json=document, headers=headers).status_code == 202
    assert priorities(engine) == [PLAIN, GATE]


@pytest.mark.parametrize("own", [PRIORITIES["nightly"], 90])
def test_a_suites_own_priority_stands(hooks: httpx.Client, engine: Engine, own: int) -> None:
    keep(hooks, job=job(priority=own))
    deliver(hooks, "push", push(branch="changes"))
    deliver(hooks, "pull_request", pull_request())
    deliver(hooks, "pull_request", pull_request(sha(2)))
    assert priorities(engine) == [own, own]


def test_a_hook_that_meets_a_full_queue_is_told_in_its_check_and_can_be_asked_again(
    full: httpx.Client, engine: Engine
) -> None:
    keep(full)
    answer = deliver(full, "push", push())["suites"][0]
    assert answer["outcome"] == "failed"
    assert "1 cells wait already" in answer["reason"]
    with reading(engine) as session:
        check = session.scalars(select(tables.Check)).one()
        (told,) = session.scalars(select(tables.Delivery.announcement))
    assert check.open is False
    assert (told["verdict"], "try again later" in told["message"]) == ("error", True)
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    asked = deliver(full, "check_run", again("check_run.rerequested", sha(1), check.id))
    assert asked["suites"][0]["outcome"] == "started"
    assert len(jobs(full)) == 2


def test_a_retry_meets_the_bound_too(full: httpx.Client) -> None:
    first = full.get(JOBS).json()["items"][0]["id"]
    full.post(f"{JOBS}/{first}/cancel")
    assert full.post(JOBS, json=job()).status_code == 202
    refused = full.post(f"{JOBS}/{first}/retry")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")


def test_results_that_were_measured_elsewhere_need_no_room(full: httpx.Client) -> None:
    measured = {"job": job(), "results": [result("0").model_dump(mode="json")]}
    posted = full.post("/v1/projects/demo/results", json=measured)
    assert (posted.status_code, posted.json()["verdict"]) == (201, "pass")


def test_a_cancel_is_answered_alike_however_often_it_is_asked(api: httpx.Client, engine: Engine) -> None:
    posted = api.post(JOBS, json=job()).json()["id"]
    for _ in range(2):
        answer = api.post(f"{JOBS}/{posted}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    done = api.post(JOBS, json=job()).json()["id"]
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    answer = api.post(f"{JOBS}/{done}/cancel")
    assert (answer.status_code, answer.json()["status"], answer.json()["verdict"]) == (202, "done", "pass")
