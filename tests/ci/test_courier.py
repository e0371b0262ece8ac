"""What is sent of a verdict, to stand-ins for GitHub and GitLab over real HTTP, on both databases."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import Engine, delete, select, update
from sqlalchemy.orm import Session
from standardwebhooks import Webhook as Library
from tests.ci.events import REPOSITORY, sha
from tests.ci.providers import GitHub, GitLab, Said, StandIn
from tests.ci.suites import GITLAB_PROJECT, WHSEC, suite, with_secrets, write_app_key
from tests.measuring import claimed, finish
from tests.samples import result, spec

from noisefloor.ci.event import Again, Head
from noisefloor.ci.transport import Outcome
from noisefloor.contract.delivery import Webhook
from noisefloor.contract.job import JobSpec
from noisefloor.contract.layers import Layer, LayerReport
from noisefloor.contract.measurement import CellResult
from noisefloor.contract.suite import HookAnswer, Suite
from noisefloor.dispatch.local import LocalDispatch
from noisefloor.errors import ConflictError
from noisefloor.settings import Settings
from noisefloor.store import checks, jobs, tables
from noisefloor.store.session import reading, writing
from noisefloor.workflow.announce import tell_of_job
from noisefloor.workflow.cancel import retry
from noisefloor.workflow.courier import Courier
from noisefloor.workflow.deliver import claim, conclude, replay
from noisefloor.workflow.hook import receive
from noisefloor.workflow.submit import submit
from noisefloor.workflow.suites import put_suite
from noisefloor.workflow.webhooks import put_webhook

KINDS = ("github", "gitlab", "webhook")


class Outbox:
    """A database with its courier, stepped by the test."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.courier = Courier(engine=engine, settings=settings)

    def keep(self, **changes: Any) -> None:
        with writing(self.engine, "test") as session:
            kept = Suite.model_validate(suite(**changes))
            put_suite(session, project="demo", name="int8", suite=kept, settings=self.settings)

    def hook(self, name: str, **changes: Any) -> None:
        with writing(self.engine, "test") as session:
            webhook = Webhook.model_validate({"secret": WHSEC, **changes})
            put_webhook(session, project="demo", name=name, webhook=webhook, settings=self.settings)

    def receive(self, event: Head | Again, delivery: str = "") -> HookAnswer:
        with writing(self.engine, "test") as session:
            return receive(
                session,
                event,
                delivery=delivery or f"{time.monotonic_ns()}",
                digest=f"{time.monotonic_ns():032x}",
                settings=self.settings,
                dispatch=LocalDispatch(),
            )

    def head(self, number: int = 1, **changes: Any) -> HookAnswer:
        document = {
            "provider": "github",
            "event": "push",
            "repository": REPOSITORY,
            "sha": sha(number),
            "branch": "topic",
            "into": "topic",
        }
        return self.receive(Head.model_validate(document | changes))

    def post(self, job_spec: JobSpec) -> str:
        with writing(self.engine, "test") as session:
            return submit(
                session, project="demo", spec=job_spec, settings=self.settings, dispatch=LocalDispatch()
            ).id

    def measure(self, answer: Callable[[str], CellResult] = result) -> None:
        with writing(self.engine, "test") as session:
            finish(session, claimed(session), answer)

    def send(self) -> int:
        """Send all that is due, and say how much that was."""
        sent = 0
        while self.courier.step():
            sent += 1
        return sent

    def rows(self) -> list[tuple[str, int, int | None]]:
        """Status, tries and answer of each delivery, oldest first."""
        with reading(self.engine) as session:
            found = session.scalars(select(tables.Delivery).order_by(tables.Delivery.id))
            return [(row.status, row.tries, row.response_status) for row in found]

    def errors(self) -> list[str]:
        with reading(self.engine) as session:
            return [
                e or "" for e in session.scalars(select(tables.Delivery.error).order_by(tables.Delivery.id))
            ]

    def expire(self) -> None:
        """Let every limit be over."""
        with writing(self.engine, "test") as session:
            session.execute(update(tables.Check).values(deadline=0))


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub() as provider:
        yield provider
    assert provider.misfits == []


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with GitLab() as provider:
        yield provider
    assert provider.misfits == []


@pytest.fixture
def outbox(engine: Engine, settings: Settings, github: GitHub, gitlab: GitLab) -> Outbox:
    return Outbox(engine, with_secrets(settings, github_api=github.api, gitlab_api=gitlab.api))


@pytest.fixture
def receiver() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def app_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, rsa.RSAPublicKey]:
    """A GitHub App's key, in a file as GitHub gives it, and its public half."""
    path = tmp_path_factory.mktemp("app") / "key.pem"
    return path, write_app_key(path)


def lost_a_layer(cell: str) -> CellResult:
    """29 dB, a decibel below the floor, of which one layer has nearly all."""

    def layer(name: str, share: float) -> dict[str, Any]:
        figure = {"value": 29.0, "kind": "finite"}
        return {"name": name, "kind": "Linear", "cumulative": figure, "local": figure, "share": share}

    layers = tuple(Layer.model_validate(layer(*of)) for of in (("fc", 0.9), ("conv_1", 0.1)))
    report = LayerReport(edge="float32->true", layers=layers, matched_share=1.0, first_divergent="fc")
    return result(cell, 29.0, layers=(report,))


def test_a_commit_status_opens_as_pending_and_ends_with_the_verdict(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    job_id = outbox.head().suites[0].job
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "pending"}
    outbox.measure(lost_a_layer)
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "failure"}
    last = github.sent("create_status")[-1]
    assert last["description"].startswith("Regressed: 1.000 dB below the floor. 1 regressed; multiple-ops")
    assert len(last["description"]) <= 140
    assert last["target_url"] == f"https://noisefloor.example/projects/demo/jobs/{job_id}"
    assert {got.headers["authorization"] for got in github.got} == {"Bearer t0ken"}
    assert [row[0] for row in outbox.rows()] == ["delivered", "delivered"]


def test_a_gitlab_status_opens_as_pending_and_ends_with_the_verdict(outbox: Outbox, gitlab: GitLab) -> None:
    outbox.keep(provider="gitlab", repository=GITLAB_PROJECT, context="int8 accuracy")
    outbox.head(provider="gitlab", repository=GITLAB_PROJECT)
    outbox.send()
    outbox.measure()
    outbox.send()
    assert [(s["state"], s["name"], s["ref"]) for s in gitlab.sent("create_status")] == [
        ("pending", "int8 accuracy", "topic"),
        ("success", "int8 accuracy", "topic"),
    ]
    assert gitlab.got[-1].path == f"/api/v4/projects/Group%2FSub%2FProject/statuses/{sha(1)}"
    assert gitlab.got[0].headers["private-token"] == "gl-t0ken"


def test_gitlab_refusing_to_set_a_status_to_what_it_is_counts_as_delivered(
    outbox: Outbox, gitlab: GitLab
) -> None:
    outbox.keep(provider="gitlab", repository=GITLAB_PROJECT)
    outbox.head(provider="gitlab", repository=GITLAB_PROJECT)
    said = b'{"message":"Cannot transition status via :enqueue from :pending (Reason(s): Status cannot)"}'
    gitlab.faults = [Said(status=400, body=said)]
    outbox.send()
    assert outbox.rows() == [("delivered", 1, 400)]


def test_check_runs_are_sent_with_an_apps_credentials(
    outbox: Outbox, github: GitHub, app_key: tuple[Path, rsa.RSAPublicKey]
) -> None:
    path, public = app_key
    settings = {"github_app_id": "Iv1.app", "github_app_key_file": path, "github_token": None}
    outbox = Outbox(outbox.engine, with_secrets(outbox.settings, github_api=github.api, **settings))
    outbox.keep()
    outbox.head(installation=77)
    outbox.send()
    outbox.measure(lost_a_layer)
    outbox.send()
    paths = [(got.method, got.path) for got in github.got if got.path != f"/repos/{REPOSITORY}/commits"]
    assert paths == [
        ("POST", "/app/installations/77/access_tokens"),
        ("POST", f"/repos/{REPOSITORY}/check-runs"),
        ("PATCH", f"/repos/{REPOSITORY}/check-runs/1"),
    ]
    bearer = github.got[0].headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(bearer, public, algorithms=["RS256"])
    assert claims["iss"] == "Iv1.app"
    assert claims["exp"] - claims["iat"] <= 600
    assert {got.headers["authorization"] for got in github.got[1:]} == {"Bearer ghs_installation"}
    opened, ended = github.sent("create_check_run")[0], github.sent("update_check_run")[0]
    assert (opened["status"], opened["head_sha"], "conclusion" in opened) == ("in_progress", sha(1), False)
    assert (ended["status"], ended["conclusion"]) == ("completed", "failure")
    assert ended["actions"][0]["identifier"] == "measure-again"
    for said in (
        "29.000 dB is 1.000 dB below the floor",
        "- layer: fc (Linear) has 90% of the layers",
        "- baseline: none; the floor is 30.000 dB",
        "| noisefloor run -",
        "https://noisefloor.example/projects/demo/jobs/",
    ):
        assert said in ended["output"]["summary"].replace("\\", "")


def test_an_installation_that_no_webhook_named_is_asked_for(
    outbox: Outbox, github: GitHub, app_key: tuple[Path, rsa.RSAPublicKey]
) -> None:
    settings = {"github_app_id": "1", "github_app_key_file": app_key[0]}
    outbox = Outbox(outbox.engine, with_secrets(outbox.settings, github_api=github.api, **settings))
    outbox.keep()
    outbox.head()
    outbox.send()
    assert [got.path for got in github.got][:2] == [
        f"/repos/{REPOSITORY}/installation",
        "/app/installations/1/access_tokens",
    ]
    assert github.runs[1]["status"] == "in_progress"


def test_a_revoked_installation_token_is_asked_for_again(
    outbox: Outbox, github: GitHub, app_key: tuple[Path, rsa.RSAPublicKey]
) -> None:
    settings = {"github_app_id": "1", "github_app_key_file": app_key[0]}
    outbox = Outbox(outbox.engine, with_secrets(outbox.settings, github_api=github.api, **settings))
    outbox.keep()
    outbox.head(1, installation=7)
    outbox.send()
    github.faults = [Said(status=401, body=b'{"message": "Bad credentials"}')]
    outbox.head(2, branch="b", into="b", installation=7)
    outbox.send()
    assert [got.path for got in github.got].count("/app/installations/7/access_tokens") == 2
    assert [row[0] for row in outbox.rows()] == ["delivered", "delivered"]


def test_a_measuring_again_is_a_check_run_of_its_own(
    outbox: Outbox, github: GitHub, app_key: tuple[Path, rsa.RSAPublicKey]
) -> None:
    settings = {"github_app_id": "1", "github_app_key_file": app_key[0]}
    outbox = Outbox(outbox.engine, with_secrets(outbox.settings, github_api=github.api, **settings))
    outbox.keep()
    outbox.head(installation=7)
    outbox.measure(lost_a_layer)
    outbox.send()
    outbox.receive(Again(provider="github", repository=REPOSITORY, sha=sha(1)))
    outbox.measure()
    outbox.send()
    assert [(run["status"], run["conclusion"]) for run in github.runs.values()] == [
        ("completed", "failure"),
        ("completed", "success"),
    ]


def test_a_hooks_job_is_given_the_commits_before_its_head(
    outbox: Outbox, github: GitHub, gitlab: GitLab
) -> None:
    outbox.keep()
    outbox.head(0xFF)
    outbox.keep(provider="gitlab", repository=GITLAB_PROJECT)
    outbox.head(0xFF, provider="gitlab", repository=GITLAB_PROJECT)
    outbox.send()
    with reading(outbox.engine) as session:
        for row in session.scalars(select(tables.Job)):
            assert row.git["ancestors"] == row.spec["git"]["ancestors"] == [sha(0xFE), sha(0xFD), sha(0xFC)]
    assert [got.query["ref_name"] for got in gitlab.got if got.method == "GET"] == [[sha(0xFF)]]
    assert len(github.got) == 2


def test_ancestors_that_are_not_to_be_had_hold_up_nothing(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    outbox.head()
    github.read_faults = [Said(status=200, body=b'[{"sha": "HEAD"}]')]
    outbox.send()
    assert outbox.rows() == [("delivered", 1, 201)]


def test_where_no_service_has_credentials_the_status_is_a_dead_letter_that_says_so(
    engine: Engine, settings: Settings
) -> None:
    outbox = Outbox(engine, with_secrets(settings, github_token=None, delivery_tries=3))
    outbox.keep()
    outbox.head()
    assert outbox.send() == 3
    assert outbox.rows() == [("dead", 3, None)]
    assert "NOISEFLOOR_GITHUB_TOKEN" in outbox.errors()[0]


def test_what_a_service_without_credentials_took_is_sent_by_one_that_has_them(
    outbox: Outbox, github: GitHub, gitlab: GitLab
) -> None:
    bare = Outbox(outbox.engine, with_secrets(outbox.settings, github_token=None, gitlab_token=None))
    outbox.keep()
    outbox.head()
    outbox.keep(provider="gitlab", repository=GITLAB_PROJECT)
    outbox.head(provider="gitlab", repository=GITLAB_PROJECT)
    for _ in range(2):
        assert bare.courier.step()
    assert {row[0] for row in bare.rows()} == {"pending"}
    outbox.send()
    assert bare.courier.step() is False
    assert {row[0] for row in outbox.rows()} == {"delivered"}
    assert outbox.errors() == ["", ""]
    assert (len(github.statuses), len(gitlab.sent("create_status"))) == (1, 1)


def test_a_verdict_takes_the_place_of_one_that_a_service_without_credentials_took(
    outbox: Outbox, github: GitHub
) -> None:
    bare = Outbox(outbox.engine, with_secrets(outbox.settings, github_token=None))
    outbox.keep()
    outbox.head()
    assert bare.courier.step()
    outbox.measure()
    assert bare.courier.step()
    outbox.send()
    assert [s["state"] for s in github.sent("create_status")] == ["success"]
    assert [(row[0], row[1]) for row in outbox.rows()] == [("superseded", 1), ("delivered", 2)]


def test_a_status_past_its_limit_ends_as_error_and_its_job_is_cancelled(
    outbox: Outbox, github: GitHub
) -> None:
    outbox.keep(timeout_s=60)
    outbox.head()
    outbox.send()
    outbox.expire()
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "error"}
    assert "could not evaluate: no verdict within" in github.sent("create_status")[-1]["description"]
    with reading(outbox.engine) as session:
        assert session.scalars(select(tables.Job.status)).all() == ["cancelled"]
    assert outbox.send() == 0


def test_a_job_that_was_late_is_no_pass_however_it_ends(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    outbox.head()
    with writing(outbox.engine, "test") as session:
        held = claimed(session)
    outbox.expire()
    outbox.send()
    with writing(outbox.engine, "test") as session:
        finish(session, held)
        assert session.scalars(select(tables.Job.verdict)).all() == ["pass"]
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "error"}


def test_an_external_suites_status_ends_too_and_a_late_verdict_replaces_the_error(
    outbox: Outbox, github: GitHub
) -> None:
    outbox.keep(run="external", job=None)
    outbox.head()
    outbox.expire()
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "error"}
    outbox.post(spec(suite="int8", git={"sha": sha(1)}))
    outbox.measure()
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "success"}


def test_results_that_come_without_an_event_open_the_status_themselves(
    outbox: Outbox, github: GitHub
) -> None:
    outbox.keep(run="external", job=None)
    outbox.post(spec(suite="int8", git={"sha": sha(3)}))
    outbox.measure()
    outbox.send()
    assert github.statuses == {(sha(3), "noisefloor/int8"): "success"}
    assert outbox.head(3).suites[0].outcome == "known"


def test_a_retried_job_is_pending_again_and_then_ends(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    outbox.head()
    outbox.measure(lambda cell: result(cell, status="failed", reason="why", measurements=()))
    outbox.send()
    with writing(outbox.engine, "test") as session:
        retry(session, session.scalars(select(tables.Job)).one(), outbox.settings, LocalDispatch())
    outbox.send()
    assert github.statuses[sha(1), "noisefloor/int8"] == "pending"
    outbox.measure()
    outbox.send()
    assert [s["state"] for s in github.sent("create_status")] == ["error", "pending", "success"]


def test_the_verdict_of_a_job_that_was_replaced_is_not_told(outbox: Outbox, github: GitHub) -> None:
    outbox.keep(run="external", job=None)
    first = outbox.post(spec(suite="int8", git={"sha": sha(1)}))
    outbox.post(spec(suite="int8", git={"sha": sha(1)}))
    with writing(outbox.engine, "test") as session:
        one, other = claimed(session), claimed(session)
        assert one.job_id == first
        finish(session, other)
        finish(session, one, lost_a_layer)
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "success"}


def test_a_check_that_a_later_job_took_over_hears_nothing_of_the_earlier_one(outbox: Outbox) -> None:
    outbox.keep(run="external", job=None)
    first = outbox.post(spec(suite="int8", git={"sha": sha(1)}))
    second = outbox.post(spec(suite="int8", git={"sha": sha(1)}))
    before = len(outbox.rows())
    with writing(outbox.engine, "test") as session:
        check = checks.of_job(session, second)
        earlier = jobs.find(session, "demo", first)
        assert check is not None
        assert earlier is not None
        tell_of_job(session, check, earlier)  # what it read before it waited for the check
    assert len(outbox.rows()) == before


def test_only_the_newest_of_what_is_still_to_be_sent_is_sent(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    outbox.head()
    outbox.measure()
    outbox.send()
    assert [s["state"] for s in github.sent("create_status")] == ["success"]
    assert [row[0] for row in outbox.rows()] == ["superseded", "delivered"]


def test_a_newer_verdict_waits_for_the_older_one_that_is_on_its_way(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    outbox.head()
    with writing(outbox.engine, "test") as session:
        older = claim(session, KINDS)
    assert older is not None
    outbox.measure()
    assert outbox.send() == 0
    with writing(outbox.engine, "test") as session:
        conclude(session, older, Outcome(result="retry"), tries=9, backoff_s=0, jitter=0)
    outbox.send()
    assert [s["state"] for s in github.sent("create_status")] == ["success"]
    assert [row[0] for row in outbox.rows()] == ["superseded", "delivered"]


def test_a_sender_that_was_lost_is_replaced_and_its_late_report_is_refused(outbox: Outbox) -> None:
    outbox.keep()
    outbox.head()
    with writing(outbox.engine, "test") as session:
        late = claim(session, KINDS)
        assert late is not None
        session.execute(update(tables.Delivery).values(lease_until=0))
        quick = claim(session, KINDS)
        assert quick is not None
        assert quick.attempt == late.attempt + 1
        for parcel, result in ((late, "refused"), (quick, "delivered"), (late, "refused")):
            outcome = Outcome(result=result, error=result)  # type: ignore[arg-type]
            conclude(session, parcel, outcome, tries=9, backoff_s=0, jitter=0)
    assert outbox.rows() == [("delivered", 2, None)]
    assert outbox.errors() == ["delivered"]


def test_two_services_on_one_outbox_send_each_delivery_once(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    for number in range(12):
        outbox.head(number + 1, branch=f"b{number}", into="b")
    other = Outbox(outbox.engine, outbox.settings)
    threads = [threading.Thread(target=one.send) for one in (outbox, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outbox.send()
    assert len(github.sent("create_status")) == len(github.statuses) == 12


def test_a_receiver_that_fails_is_tried_again_and_hears_the_same_id(
    outbox: Outbox, receiver: StandIn
) -> None:
    answers = [Said(status=500), Said(status=503), Said(status=429), Said(status=204)]
    receiver.answer = lambda _got: answers.pop(0)
    outbox.hook("chat", url=f"{receiver.url}/in?x=1")
    outbox.post(spec())
    outbox.measure()
    assert outbox.send() == 4
    assert outbox.rows() == [("delivered", 4, 204)]
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    for got in receiver.got:
        said = Library(WHSEC).verify(got.body, got.headers)
        assert (said["type"], said["data"]["verdict"]) == ("job.verdict", "pass")


def test_a_webhook_hears_of_the_verdicts_it_asked_for(outbox: Outbox, receiver: StandIn) -> None:
    outbox.hook("all", url=receiver.url)
    outbox.hook("bad", url=receiver.url, verdicts=["regressed"])
    outbox.hook("off", url=receiver.url, enabled=False)
    for answer in (result, lost_a_layer):
        outbox.post(spec())
        outbox.measure(answer)
    assert outbox.send() == 3
    verdicts = sorted(got.json["data"]["verdict"] for got in receiver.got)
    assert verdicts == ["pass", "regressed", "regressed"]
    worst = next(got.json["data"] for got in receiver.got if got.json["data"]["verdict"] == "regressed")
    assert worst["losses"][0]["layer"].startswith("fc (Linear)")


def test_tries_end_in_a_dead_letter_that_can_be_replayed(outbox: Outbox, receiver: StandIn) -> None:
    outbox = Outbox(outbox.engine, with_secrets(outbox.settings, delivery_tries=3))
    receiver.answer = lambda _got: Said(status=500, body=b"down\x00")
    outbox.hook("chat", url=receiver.url)
    outbox.post(spec())
    outbox.measure()
    assert outbox.send() == 3
    assert outbox.rows() == [("dead", 3, 500)]
    assert outbox.errors() == ["answered 500: down "]
    receiver.answer = lambda _got: Said()
    with writing(outbox.engine, "test") as session:
        dead = session.scalars(select(tables.Delivery.id)).one()
        replay(session, "demo", dead)
    outbox.send()
    assert outbox.rows() == [("delivered", 1, 200)]
    with pytest.raises(ConflictError, match="delivered"), writing(outbox.engine, "test") as session:
        replay(session, "demo", dead)


def test_the_log_says_what_became_of_a_delivery(
    outbox: Outbox, receiver: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    outbox = Outbox(outbox.engine, with_secrets(outbox.settings, delivery_tries=2))
    outbox.hook("chat", url=receiver.url)
    answers = [Said(), Said(status=500), Said(status=500), Said(status=410)]
    receiver.answer = lambda _got: answers.pop(0)
    for _ in range(3):
        outbox.post(spec())
        outbox.measure()
        outbox.send()
    told = [
        (record.levelname, record.getMessage().partition(": ")[2])
        for record in caplog.records
        if record.getMessage().startswith("delivery ")
    ]
    assert told == [
        ("INFO", "delivered"),
        ("WARNING", "to be sent again after 1 try: answered 500"),
        ("WARNING", "dead letter after 2 tries: answered 500"),
        ("WARNING", "dead letter after 1 try, webhook 'chat' of project 'demo' switched off: answered 410"),
    ]


def test_a_dead_letter_that_was_overtaken_is_not_replayed(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    outbox.head()
    github.faults = [Said(status=422, body=b'{"message":"No commit found for SHA"}')]
    outbox.send()
    assert outbox.rows() == [("dead", 1, 422)]
    outbox.measure()
    with pytest.raises(ConflictError, match="newer"), writing(outbox.engine, "test") as session:
        replay(session, "demo", session.scalars(select(tables.Delivery.id)).first() or "")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_trying_cannot_mend_is_a_dead_letter_at_once(
    outbox: Outbox, receiver: StandIn, status: int
) -> None:
    receiver.answer = lambda _got: Said(status=status)
    outbox.hook("chat", url=receiver.url)
    outbox.post(spec())
    outbox.measure()
    outbox.send()
    assert outbox.rows() == [("dead", 1, status)]


def test_a_receiver_that_is_gone_is_switched_off(outbox: Outbox, receiver: StandIn) -> None:
    receiver.answer = lambda _got: Said(status=410)
    outbox.hook("chat", url=receiver.url)
    for _ in range(2):
        outbox.post(spec())
        outbox.measure()
    outbox.send()
    assert [row[0] for row in outbox.rows()] == ["dead", "dead"]
    assert len(receiver.got) == 1
    with reading(outbox.engine) as session:
        webhook = session.scalars(select(tables.Webhook)).one()
        assert (webhook.enabled, "410" in (webhook.disabled_reason or "")) == (False, True)


def test_what_was_to_be_sent_to_a_webhook_that_is_forgotten_is_a_dead_letter(
    outbox: Outbox, receiver: StandIn
) -> None:
    outbox.hook("chat", url=receiver.url)
    outbox.post(spec())
    outbox.measure()
    with writing(outbox.engine, "test") as session:
        session.execute(delete(tables.Webhook))
    assert outbox.send() == 0
    assert (outbox.rows(), outbox.errors()) == (
        [("dead", 1, None)],
        ["webhook 'chat' is switched off or gone"],
    )


def test_redirects_are_not_followed(outbox: Outbox, receiver: StandIn) -> None:
    with StandIn() as elsewhere:
        receiver.answer = lambda _got: Said(status=302, headers={"Location": elsewhere.url})
        outbox.hook("chat", url=receiver.url)
        outbox.post(spec())
        outbox.measure()
        outbox.send()
        assert elsewhere.got == []
    assert outbox.rows() == [("dead", 1, 302)]


def test_the_receivers_retry_after_is_honoured(outbox: Outbox, receiver: StandIn) -> None:
    receiver.answer = lambda _got: Said(status=503, headers={"Retry-After": "3600"})
    outbox.hook("chat", url=receiver.url)
    outbox.post(spec())
    outbox.measure()
    assert outbox.send() == 1
    with reading(outbox.engine) as session:
        row = session.scalars(select(tables.Delivery)).one()
    assert 3_500 < row.due_at - row.created_at.timestamp() < 3_700


def test_githubs_rate_limit_is_waited_for(outbox: Outbox, github: GitHub) -> None:
    reset = datetime.now(UTC) + timedelta(seconds=1800)
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(reset.timestamp()))}
    github.faults = [Said(status=403, headers=headers)]
    outbox.keep()
    outbox.head()
    assert outbox.send() == 1
    with reading(outbox.engine) as session:
        row = session.scalars(select(tables.Delivery)).one()
    assert (row.status, row.response_status) == ("pending", 403)
    assert 1_700 < row.due_at - row.created_at.timestamp() < 1_900


@pytest.fixture
def hanging() -> Iterator[str]:
    """A receiver that takes the request, and says a byte of its answer now and then."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100:
                        if stop.wait(0.05):
                            return
                        try:
                            connection.sendall(bytes([byte]))
                        except OSError:
                            break

        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_receiver_that_hangs_is_left_in_time(outbox: Outbox, hanging: str) -> None:
    outbox = Outbox(outbox.engine, with_secrets(outbox.settings, delivery_tries=1, delivery_timeout_s=0.5))
    outbox.hook("chat", url=hanging)
    outbox.post(spec())
    outbox.measure()
    started = time.monotonic()
    outbox.send()
    assert time.monotonic() - started < 10
    assert outbox.rows() == [("dead", 1, None)]
    assert outbox.errors() == ["no answer within 0.5 s"]


def test_an_endless_answer_is_read_to_a_bound(outbox: Outbox, receiver: StandIn) -> None:
    receiver.answer = lambda _got: Said(status=400, body=b"x" * 2**22)
    outbox.hook("chat", url=receiver.url)
    outbox.post(spec())
    outbox.measure()
    outbox.send()
    assert outbox.rows() == [("dead", 1, 400)]
    assert len(outbox.errors()[0]) < 2_000


@pytest.mark.parametrize("url", ["https://127.0.0.1:9/x", "https://2130706433/x", "http://example.com/"])
def test_nothing_is_sent_to_addresses_that_are_not_public(outbox: Outbox, url: str) -> None:
    outbox.hook("chat", url=url)
    strict = Outbox(outbox.engine, with_secrets(outbox.settings, webhook_allow_private=False))
    strict.post(spec())
    strict.measure()
    strict.send()
    assert strict.rows() == [("dead", 1, None)]
    assert "not a public address" in strict.errors()[0] or "https" in strict.errors()[0]


def test_a_job_that_is_gone_leaves_its_check_and_delivery(outbox: Outbox, github: GitHub) -> None:
    outbox.keep()
    outbox.head()
    outbox.measure()

    def forget(session: Session) -> None:
        for table in (
            tables.Analysis,
            tables.Finding,
            tables.Measurement,
            tables.Cell,
            tables.Shard,
            tables.Job,
        ):
            for row in session.scalars(select(table)):
                session.delete(row)
            session.flush()

    with writing(outbox.engine, "test") as session:
        forget(session)
    outbox.send()
    assert github.statuses == {(sha(1), "noisefloor/int8"): "success"}


def test_a_rolled_back_verdict_is_not_told(outbox: Outbox, receiver: StandIn) -> None:
    outbox.hook("chat", url=receiver.url)
    outbox.post(spec())
    with pytest.raises(RuntimeError), writing(outbox.engine, "test") as session:
        finish(session, claimed(session))
        raise RuntimeError
    assert outbox.rows() == []


def test_the_services_threads_send_what_is_announced(
    outbox: Outbox, github: GitHub, receiver: StandIn
) -> None:
    outbox.keep()
    outbox.hook("chat", url=receiver.url)
    with outbox.courier:
        outbox.head()
        outbox.measure()
        deadline = time.monotonic() + 30
        while not (receiver.got and "success" in github.statuses.values()) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert github.statuses == {(sha(1), "noisefloor/int8"): "success"}
    assert len(receiver.got) == 1
