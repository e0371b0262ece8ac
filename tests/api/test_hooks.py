"""Deliveries of GitHub and GitLab over HTTP, on both databases."""

import base64
import hashlib
import hmac
import json
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, func, select, update
from standardwebhooks import Webhook
from tests.ci.events import (
    RECORDED,
    SECRET,
    ZERO,
    again,
    gitlab_push,
    merge_request,
    pull_request,
    push,
    sha,
    signed,
)
from tests.ci.suites import GITHUB, GITLAB, GITLAB_PROJECT, SUITES, WHSEC, suite, with_secrets
from tests.conftest import serving
from tests.measuring import claimed, finish
from tests.samples import job

from noisefloor.ci.signatures import github_signature, github_signed
from noisefloor.settings import Settings
from noisefloor.store import tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.deliver import expire

JOBS = "/v1/projects/demo/jobs"


@pytest.fixture
def hooks(engine: Engine, settings: Settings) -> Iterator[httpx.Client]:
    """A service with a token and secrets for hooks; nothing is sent: it has no credentials."""
    guarded = with_secrets(settings, token="s3cret", github_token=None, gitlab_token=None)
    with serving(guarded, engine) as client:
        client.headers["Authorization"] = "Bearer s3cret"
        yield client


def keep(hooks: httpx.Client, name: str = "int8", **changes: Any) -> None:
    assert hooks.put(f"{SUITES}/{name}", json=suite(**changes)).status_code == 200


def deliver(hooks: httpx.Client, event: str, document: Any, delivery: str | None = None) -> dict[str, Any]:
    """Deliver as GitHub does: without a bearer token."""
    request = signed(event, document, delivery=delivery or f"{random.random()}")
    answer = httpx.post(f"{hooks.base_url}{GITHUB}", **request)
    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert isinstance(document, dict)
    return document


def jobs(hooks: httpx.Client) -> list[dict[str, Any]]:
    """All jobs, oldest first."""
    items: list[dict[str, Any]] = hooks.get(JOBS).json()["items"]
    return items[::-1]


def count(engine: Engine, table: type[tables.Base]) -> int:
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_a_push_submits_the_suites_job_at_its_commit(hooks: httpx.Client) -> None:
    keep(hooks)
    started = time.monotonic()
    answer = deliver(hooks, "push", push(branch="master"))
    assert time.monotonic() - started < 1
    assert [(s["suite"], s["outcome"]) for s in answer["suites"]] == [("int8", "started")]
    (posted,) = jobs(hooks)
    assert posted["id"] == answer["suites"][0]["job"]
    assert posted["git"] == {
        "repository": "Codertocat/Hello-World",
        "branch": "master",
        "sha": sha(1),
        "committed_at": "2019-05-15T15:19:25Z",
        "ancestors": [],
        "dirty": False,
        "tag": None,
        "merge": None,
    }


@pytest.mark.parametrize("event", ["pull_request", "merge_group"])
def test_heads_of_pull_requests_and_merge_groups_are_measured(hooks: httpx.Client, event: str) -> None:
    keep(hooks, repository=RECORDED[event]["repository"]["full_name"])
    answer = deliver(hooks, event, RECORDED[event])
    assert answer["suites"][0]["outcome"] == "started"
    (posted,) = jobs(hooks)
    head = (
        RECORDED[event].get("merge_group", {}).get("head_sha")
        or RECORDED[event]["pull_request"]["head"]["sha"]
    )
    assert posted["git"]["sha"] == head


def test_a_forks_branch_is_not_taken_for_ours(hooks: httpx.Client) -> None:
    keep(hooks)
    document = pull_request()
    head = {**document["pull_request"]["head"], "ref": "master", "label": "mallory:master", "repo": None}
    document["pull_request"] = {**document["pull_request"], "head": head}
    deliver(hooks, "pull_request", document)
    assert jobs(hooks)[0]["git"]["branch"] == "mallory:master"


def test_gitlab_pushes_and_merge_requests_are_measured(hooks: httpx.Client) -> None:
    keep(hooks, provider="gitlab", repository=GITLAB_PROJECT)
    for event, document in (("Push Hook", gitlab_push()), ("Merge Request Hook", merge_request())):
        headers = {"X-Gitlab-Event": event, "X-Gitlab-Token": "token", "X-Gitlab-Event-UUID": event[:4]}
        answer = httpx.post(f"{hooks.base_url}{GITLAB}", json=document, headers=headers)
        assert (answer.status_code, answer.json()["outcome"]) == (202, "accepted"), answer.text
    assert [(j["git"]["sha"], j["git"]["branch"]) for j in jobs(hooks)] == [
        (sha(1), "topic"),
        (sha(2), "topic"),
    ]


def test_a_gitlab_signing_token_is_verified_over_the_raw_bytes(hooks: httpx.Client) -> None:
    keep(hooks, provider="gitlab", repository=GITLAB_PROJECT)
    body, now = json.dumps(gitlab_push()), datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "X-Gitlab-Event": "Push Hook",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(WHSEC).sign("msg_1", now, body),
    }
    address = f"{hooks.base_url}{GITLAB}"
    assert httpx.post(address, content=body + " ", headers=headers).status_code == 401
    assert httpx.post(address, content=body, headers={**headers, "webhook-id": "msg_2"}).status_code == 401
    assert (
        httpx.post(
            address, content=body, headers={**headers, "X-Gitlab-Token": WHSEC} | {"webhook-signature": "v1,"}
        ).status_code
        == 401
    )
    assert httpx.post(address, content=body, headers=headers).json()["outcome"] == "accepted"


def test_an_old_signature_is_refused(hooks: httpx.Client) -> None:
    body, then = json.dumps(gitlab_push()), datetime.fromtimestamp(time.time() - 301, UTC)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": "m",
        "webhook-timestamp": str(int(then.timestamp())),
        "webhook-signature": Webhook(WHSEC).sign("m", then, body),
    }
    answer = httpx.post(f"{hooks.base_url}{GITLAB}", content=body, headers=headers)
    assert answer.status_code == 401
    assert re.search(r"webhook-timestamp is 3\d\d s behind .*; 300 s are allowed", answer.json()["detail"])
    wrong = httpx.post(f"{hooks.base_url}{GITLAB}", content=f"{body} ", headers=headers)
    assert (wrong.status_code, "clock" in wrong.text) == (401, False)


NOT_SIGNED: list[dict[str, str]] = [
    {},
    {"X-Hub-Signature-256": "sha256=", "X-Gitlab-Token": ""},
    {"X-Hub-Signature-256": "sha256=" + "0" * 64, "X-Gitlab-Token": "Token"},
    {"X-Hub-Signature-256": "sha1=" + hmac.new(SECRET.encode(), b"{}", hashlib.sha1).hexdigest()},
    {"X-Hub-Signature-256": hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest()},
    {"X-Hub-Signature-256": github_signature(b"{}", "another"), "X-Gitlab-Token": "token,"},
    {"X-Hub-Signature-256": github_signature(b"{} ", SECRET), "X-Gitlab-Token": f"token,{WHSEC}"},
    {"X-Hub-Signature-256": github_signature(b"{}", ""), "X-Gitlab-Token": WHSEC},
    {"Authorization": "Bearer s3cret"},
]


def test_what_is_not_signed_with_a_secret_is_refused(hooks: httpx.Client) -> None:
    for address in (GITHUB, GITLAB):
        for headers in NOT_SIGNED:
            refused = httpx.post(f"{hooks.base_url}{address}", content=b"{}", headers=headers)
            assert refused.status_code == 401, headers
            assert refused.json()["type"] == "urn:noisefloor:problem:bad-signature"


def test_each_of_several_secrets_signs(hooks: httpx.Client) -> None:
    for secret in ("old", SECRET):
        answer = httpx.post(f"{hooks.base_url}{GITHUB}", **signed("ping", RECORDED["ping"], secret=secret))
        assert answer.json()["outcome"] == "ignored"
        assert "ping" in answer.json()["reason"]


def test_a_service_without_secrets_takes_no_hooks(api: httpx.Client) -> None:
    for address in (GITHUB, GITLAB):
        refused = api.post(address, **signed("ping", RECORDED["ping"]))
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:noisefloor:problem:not-allowed")


def test_a_thousand_replays_have_one_effect(hooks: httpx.Client, engine: Engine) -> None:
    keep(hooks)
    requests = [signed("push", push(), delivery="same" if n % 2 else f"other-{n}") for n in range(1000)]
    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(16) as many:
        answers = list(many.map(lambda sent: client.post(f"{hooks.base_url}{GITHUB}", **sent), requests))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json()["outcome"] for answer in answers) == ["accepted"] + ["replayed"] * 999
    assert [count(engine, table) for table in (tables.Job, tables.Check, tables.Cell)] == [1, 1, 1]


def test_ten_thousand_mutated_signatures_are_refused(hooks: httpx.Client, engine: Engine) -> None:
    keep(hooks)
    body = json.dumps(push()).encode()
    right = github_signature(body, SECRET)
    assert github_signed(body, right, ["old", SECRET])
    draw = random.Random(5)
    mutants: list[tuple[bytes, str]] = []
    while len(mutants) < 10_000:
        content, header = bytearray(body), bytearray(right.encode())
        mutated = draw.choice([content, header])
        place = draw.randrange(len(mutated))
        match draw.randrange(3):
            case 0:
                mutated[place] ^= 1 << draw.randrange(7)
            case 1:
                del mutated[place]
            case 2:
                mutated.insert(place, draw.randrange(32, 127))
        if (bytes(content), header.decode("latin-1")) != (body, right):
            mutants.append((bytes(content), header.decode("latin-1")))
    assert not any(github_signed(content, header, ["old", SECRET]) for content, header in mutants)
    with httpx.Client() as client:
        for content, header in mutants[:50]:
            request = signed("push", content)
            request["headers"]["X-Hub-Signature-256"] = "".join(c if " " <= c <= "~" else "?" for c in header)
            assert client.post(f"{hooks.base_url}{GITHUB}", **request).status_code == 401
    assert count(engine, tables.Job) == 0


def test_mutated_webhook_signatures_are_refused() -> None:
    from noisefloor.ci.signatures import webhook_age_s, webhook_key, webhook_signature

    key = webhook_key(WHSEC)
    right = webhook_signature(key, message_id="m", timestamp_s=1_000_000_000, body=b"{}")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=,! "
    said = {"message_id": "m", "timestamp": "1000000000", "keys": [key], "now_s": 1_000_000_000.0}
    assert webhook_age_s(b"{}", header=f"v1a,x {right}", **said) == 0
    assert webhook_age_s(b"{}", header=right, **said | {"now_s": 1_000_004_000.0}) == 4_000
    assert webhook_age_s(b"{}", header=right, **said | {"now_s": 999_999_000.0}) == -1_000
    mutants = {right[:n] + c + right[n + 1 :] for n in range(len(right)) for c in alphabet} - {right}
    mutants |= {right[:n] + c + right[n:] for n in range(1, len(right)) for c in alphabet if c != " "}
    assert len(mutants) > 5_000
    assert {webhook_age_s(b"{}", header=mutant, **said) for mutant in mutants} == {None}


STARTS_NOTHING: list[tuple[str, dict[str, Any], str]] = [
    ("star", {"action": "created"}, "'star' starts nothing"),
    ("push", push(after=ZERO), "was deleted"),
    ("push", push() | {"ref": "refs/tags/v1"}, "no branch"),
    ("pull_request", pull_request(action="labeled"), "no new head"),
    ("merge_group", RECORDED["merge_group"] | {"action": "destroyed"}, "no checks"),
    (
        "check_run",
        again("check_run.rerequested", sha(1), "x") | {"action": "completed"},
        "asks for nothing",
    ),
    ("check_run", again("check_run.requested_action", sha(1), "x", action="lgtm"), "not one of ours"),
    ("check_suite", RECORDED["check_suite.rerequested"] | {"action": "requested"}, "asks for nothing"),
    ("push", push(), "no suite"),
]


def test_what_starts_nothing_is_ignored_and_says_why(hooks: httpx.Client, engine: Engine) -> None:
    for event, document, reason in STARTS_NOTHING:
        answer = deliver(hooks, event, document)
        assert answer["outcome"] == "ignored"
        assert reason in answer["reason"]
    assert count(engine, tables.Job) == count(engine, tables.Check) == 0


SAYS_NOTHING: list[tuple[bytes, int, str]] = [
    (b"", 400, "malformed-body"),
    (b"{", 400, "malformed-body"),
    (b"\xff", 400, "malformed-body"),
    (b"[" * 100_000, 400, "malformed-body"),
    (b"null", 422, "invalid-request"),
    (b"{}", 422, "invalid-request"),
    (json.dumps(push(after="main")).encode(), 422, "invalid-request"),
    (json.dumps(push(branch="a\x00b")).encode(), 422, "invalid-request"),
    (json.dumps(push(branch="x" * 600)).encode(), 422, "invalid-request"),
    (json.dumps(push(at=10**15)).encode(), 422, "invalid-request"),
    (json.dumps(push() | {"installation": {"id": 2**63}}).encode(), 422, "invalid-request"),
    (json.dumps(push()).replace("topic", "\\ud800").encode(), 400, "malformed-body"),
]


def test_a_signed_body_that_says_nothing_is_a_problem(hooks: httpx.Client, engine: Engine) -> None:
    keep(hooks)
    for body, status, code in SAYS_NOTHING:
        refused = httpx.post(f"{hooks.base_url}{GITHUB}", **signed("push", body))
        assert (refused.status_code, refused.json()["type"]) == (status, f"urn:noisefloor:problem:{code}"), (
            body
        )
    assert count(engine, tables.Check) == 0


def test_a_form_is_refused_with_what_to_choose(hooks: httpx.Client) -> None:
    request = signed("push", b"payload=%7B%7D")
    request["headers"]["Content-Type"] = "application/x-www-form-urlencoded"
    refused = httpx.post(f"{hooks.base_url}{GITHUB}", **request)
    assert (refused.status_code, "application/json" in refused.json()["detail"]) == (400, True)


def test_a_body_larger_than_providers_send_is_refused(engine: Engine, settings: Settings) -> None:
    with serving(with_secrets(settings, max_hook_bytes=2**21), engine) as client:
        large = json.dumps({**push(), "filler": "x" * (2**20)}).encode()
        assert client.post(GITHUB, **signed("push", large)).status_code == 202
        larger = json.dumps({**push(), "filler": "x" * (2**21)}).encode()
        assert client.post(GITHUB, **signed("push", larger)).status_code == 413
        assert client.post(JOBS, content=large).status_code == 413


def test_a_newer_head_cancels_the_older_jobs_of_its_branch(hooks: httpx.Client) -> None:
    keep(hooks)
    keep(hooks, "other", events=["merge_group"])
    first = deliver(hooks, "push", push(sha(1), at=100))["suites"][0]["job"]
    elsewhere = deliver(hooks, "push", push(sha(9), branch="elsewhere", at=101))["suites"][0]["job"]
    second = deliver(hooks, "push", push(sha(2), before=sha(1), at=102))["suites"][0]
    assert second["cancelled"] == [first]
    assert {j["id"]: j["status"] for j in jobs(hooks)} == {
        first: "cancelled",
        elsewhere: "queued",
        second["job"]: "queued",
    }


def test_the_default_branch_keeps_its_older_jobs_unless_the_suite_says_otherwise(hooks: httpx.Client) -> None:
    keep(hooks)
    deliver(hooks, "push", push(sha(1), branch="master", at=100))
    deliver(hooks, "push", push(sha(2), before=sha(1), branch="master", at=101))
    assert [j["status"] for j in jobs(hooks)] == ["queued", "queued"]
    keep(hooks, cancel_older_on_default_branch=True)
    deliver(hooks, "push", push(sha(3), before=sha(2), branch="master", at=102))
    assert [j["status"] for j in jobs(hooks)] == ["cancelled", "cancelled", "queued"]


def test_merge_groups_stand_side_by_side(hooks: httpx.Client) -> None:
    recorded = RECORDED["merge_group"]
    keep(hooks, repository=recorded["repository"]["full_name"])
    for number in (1, 2):
        group = {**recorded["merge_group"], "head_sha": sha(number)}
        deliver(hooks, "merge_group", {**recorded, "merge_group": group})
    assert [j["status"] for j in jobs(hooks)] == ["queued", "queued"]


@pytest.mark.parametrize("clock", [(100, 101), (100, 100), (101, 100)], ids=["later", "equal", "skewed"])
def test_an_older_push_that_comes_late_cancels_nothing(hooks: httpx.Client, clock: tuple[int, int]) -> None:
    keep(hooks)
    newer = deliver(hooks, "push", push(sha(2), before=sha(1), at=clock[1]))["suites"][0]["job"]
    older = deliver(hooks, "push", push(sha(1), at=clock[0]))["suites"][0]
    assert older["cancelled"] == []
    assert next(j for j in jobs(hooks) if j["id"] == newer)["status"] == "queued"


def test_an_older_push_is_known_by_the_clock_where_nothing_links_the_two(hooks: httpx.Client) -> None:
    keep(hooks)
    newer = deliver(hooks, "push", push(sha(3), before=sha(2), at=102))["suites"][0]["job"]
    assert deliver(hooks, "push", push(sha(1), at=100))["suites"][0]["cancelled"] == []
    assert newer not in deliver(hooks, "push", push(sha(2), before=sha(1), at=101))["suites"][0]["cancelled"]


def test_a_push_back_to_an_older_commit_is_newer(hooks: httpx.Client) -> None:
    keep(hooks)
    first = deliver(hooks, "push", push(sha(2), at=200))["suites"][0]["job"]
    assert deliver(hooks, "push", push(sha(1), before=sha(2), at=100))["suites"][0]["cancelled"] == [first]


def test_a_push_and_its_pull_request_are_one_head(hooks: httpx.Client) -> None:
    keep(hooks)
    assert deliver(hooks, "push", push(branch="changes"))["suites"][0]["outcome"] == "started"
    assert deliver(hooks, "pull_request", pull_request())["suites"][0]["outcome"] == "known"
    assert len(jobs(hooks)) == 1


def test_suites_choose_their_events_and_branches(hooks: httpx.Client) -> None:
    keep(hooks, "pushes", events=["push"], branches=["release/*"])
    keep(hooks, "requests", events=["pull_request"], branches=["master"])
    keep(hooks, "off", events=[])
    assert deliver(hooks, "push", push())["outcome"] == "ignored"
    started = deliver(hooks, "push", push(sha(2), branch="release/1"))
    assert [s["suite"] for s in started["suites"]] == ["pushes"]
    assert [s["suite"] for s in deliver(hooks, "pull_request", pull_request())["suites"]] == ["requests"]


def test_a_rerequest_measures_again_once_the_check_has_ended(hooks: httpx.Client, engine: Engine) -> None:
    keep(hooks)
    first = deliver(hooks, "push", push())["suites"][0]["job"]
    with reading(engine) as session:
        check = session.scalars(select(tables.Check.id)).one()
    document = again("check_run.requested_action", sha(1), check)
    assert deliver(hooks, "check_run", document)["suites"][0] == {
        "project": "demo",
        "suite": "int8",
        "outcome": "running",
        "job": first,
        "cancelled": [],
        "reason": None,
    }
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    for kind, n in (
        ("check_run.requested_action", 1),
        ("check_run.rerequested", 2),
        ("check_suite.rerequested", 3),
    ):
        answer = deliver(hooks, kind.partition(".")[0], {**again(kind, sha(1), check), "n": n})
        assert answer["suites"][0]["outcome"] == "started"
        with writing(engine, "test") as session:
            finish(session, claimed(session))
    assert [j["verdict"] for j in jobs(hooks)] == ["pass"] * 4
    assert count(engine, tables.Check) == 1
    other = deliver(hooks, "check_run", again("check_run.rerequested", sha(1), "another app's"))
    assert other["suites"] == []


def test_an_external_suite_opens_the_status_and_starts_nothing(hooks: httpx.Client, engine: Engine) -> None:
    keep(hooks, run="external", job=None)
    answer = deliver(hooks, "push", push())
    assert [(s["outcome"], s["job"]) for s in answer["suites"]] == [("started", None)]
    assert jobs(hooks) == []
    with reading(engine) as session:
        assert session.scalars(select(tables.Check.open)).all() == [True]
    posted = hooks.post(JOBS, json=job(suite="int8", git={"sha": sha(1), "branch": "topic"})).json()
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    with reading(engine) as session:
        check = session.scalars(select(tables.Check)).one()
        assert (check.open, check.job_id) == (False, posted["id"])


def test_a_job_that_can_no_longer_be_ends_its_check_as_error(
    hooks: httpx.Client, engine: Engine, settings: Settings
) -> None:
    keep(hooks)
    fewer = with_secrets(settings, max_cells=1, token="s3cret", github_token=None)
    keep(hooks, job=job(lanes={"engine": ["x86", "onednn"]}))
    with serving(fewer, engine) as client:
        answer = deliver(client, "push", push())
    assert answer["suites"][0]["outcome"] == "failed"
    with reading(engine) as session:
        assert session.scalars(select(tables.Check.open)).all() == [False]
        (told,) = session.scalars(select(tables.Delivery.announcement))
    assert told["verdict"] == "error"
    assert "at most 1" in told["message"]


def gate(hooks: httpx.Client) -> tuple[str, str]:
    """The verdict of the commit that was pushed."""
    answer = hooks.post("/v1/projects/demo/gates", json={"sha": sha(1)})
    assert answer.status_code == 201, answer.text
    return answer.json()["verdict"], answer.json()["message"]


def test_a_commit_does_not_pass_without_a_suite_whose_check_was_opened(
    hooks: httpx.Client, engine: Engine
) -> None:
    keep(hooks)
    keep(hooks, "elsewhere", run="external", job=None)
    deliver(hooks, "push", push())
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    said = f"no job of this name or suite measures {sha(1)}"
    assert gate(hooks) == ("pending", f"elsewhere: {said}")
    with writing(engine, "test") as session:
        session.execute(update(tables.Check).values(deadline=0.0))
        expire(session)
    assert gate(hooks) == ("error", f"elsewhere: the suite's check ended, and {said}")
    hooks.post(JOBS, json=job(suite="elsewhere", git={"sha": sha(1), "branch": "topic"}))
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    assert gate(hooks)[0] == "pass"


def test_a_commit_does_not_pass_without_a_suite_that_could_not_be_started(
    hooks: httpx.Client, engine: Engine, settings: Settings
) -> None:
    keep(hooks)
    keep(hooks, "wide", job=job(lanes={"engine": ["x86", "onednn"]}))
    with serving(with_secrets(settings, max_cells=1, token="s3cret", github_token=None), engine) as client:
        answer = deliver(client, "push", push())
    assert {one["suite"]: one["outcome"] for one in answer["suites"]} == {"int8": "started", "wide": "failed"}
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    assert gate(hooks) == (
        "error",
        f"wide: the suite's check ended, and no job of this name or suite measures {sha(1)}",
    )


def test_signatures_are_as_published() -> None:
    # GitHub, "Validating webhook deliveries"
    published = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert github_signed(b"Hello, World!", published, ["It's a Secret to Everybody"])
    assert base64.b64encode(bytes.fromhex(published[7:]))
