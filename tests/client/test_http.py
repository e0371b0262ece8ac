"""The client, on a real service."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from sqlalchemy import Engine
from tests.conftest import serving
from tests.measuring import claimed, finish
from tests.proxy import Proxy
from tests.samples import ENVIRONMENT, result, spec

from noisefloor.client import Client, RefusedError, http
from noisefloor.contract.bisection import BisectionSpec
from noisefloor.contract.results import MeasuredJob
from noisefloor.errors import NotSettledError, UnavailableError
from noisefloor.settings import Settings
from noisefloor.store.session import writing

MEASURED = MeasuredJob(job=spec(), results=(result("0"),))


@pytest.fixture
def service(api: httpx.Client) -> Iterator[Client]:
    with Client(str(api.base_url), project="demo") as client:
        yield client


def test_results_are_pushed_and_read(service: Client) -> None:
    pushed = service.push(MEASURED, idempotency_key="a")
    assert (pushed.status.value, pushed.verdict.value) == ("done", "pass")
    assert service.wait(pushed.id, timeout_s=0) == service.job(pushed.id)
    (cell,) = service.cells(pushed.id)
    assert cell.environment is not None
    assert service.environment(cell.environment).document["torch"] == ENVIRONMENT.torch
    (series,) = service.series({"engine": "x86"})
    assert series.key == cell.measurements[0].series


def test_a_bisection_is_asked_for_listed_and_cancelled(service: Client) -> None:
    asked = BisectionSpec(over="layers", below_db=30, job=spec())
    posted = service.bisect(asked, idempotency_key="a")
    assert posted == service.bisect(asked, idempotency_key="a")
    assert list(service.bisections()) == [service.bisection(posted.id)]
    assert service.cancel_bisection(posted.id).status.settled
    assert service.bisection(posted.id, wait_s=60).message == "cancelled"


def test_what_is_refused_says_what_and_is_not_repeated(service: Client) -> None:
    with pytest.raises(RefusedError) as refused:
        service.push(MeasuredJob(job=spec(), results=()), idempotency_key="a")
    assert (refused.value.status, refused.value.code) == (422, "invalid-request")
    assert refused.value.errors[0].field == "results"


def test_jobs_come_newest_first_as_many_as_are_asked_for(
    service: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PAGE", 2)
    posted = [service.submit(spec(git={"branch": branch})).id for branch in ("a", "b", "a", "a", "a")]
    assert [job.id for job in service.jobs()] == posted[::-1]
    pushed = service.push(MEASURED.replace(explains=posted[0]), idempotency_key="a").id
    assert [job.id for job in service.jobs()] == [pushed, *posted[::-1]]
    assert [job.id for job in service.jobs(counts=True)] == posted[::-1]
    assert [job.id for job in service.jobs(counts=False)] == [pushed]
    assert [job.id for job in service.jobs(branch="a", limit=3)] == [posted[4], posted[3], posted[2]]


def test_waiting_ends_with_the_job_or_with_its_time(service: Client, engine: Engine) -> None:
    posted = service.submit(spec())
    with pytest.raises(UnavailableError, match=f"{posted.id} is still queued"):
        service.wait(posted.id, timeout_s=0.1)
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    assert service.wait(posted.id).verdict.value == "pass"


def test_a_job_is_followed_past_a_restart_of_the_service(engine: Engine, settings: Settings) -> None:
    with serving(settings, engine) as api:
        port = api.base_url.port
        service = Client(str(api.base_url), project="demo")
        following = service.follow(service.submit(spec()).id)
        assert next(following).status.value == "queued"
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    with service, serving(settings.model_copy(update={"port": port}), engine):
        *_, settled = following
    assert settled.verdict.value == "pass"
    assert settled.results is not None


@pytest.fixture
def between(api: httpx.Client) -> Iterator[Proxy]:
    """What lies between the client and the service."""
    assert api.base_url.port is not None
    with Proxy(api.base_url.port) as proxy:
        yield proxy


@pytest.mark.parametrize("streamed", [True, False])
def test_a_job_is_followed_past_a_lost_connection(between: Proxy, engine: Engine, *, streamed: bool) -> None:
    """Also where it is lost between the POST and the stream."""
    with Client(f"http://127.0.0.1:{between.port}", project="demo") as through:
        following = through.follow(through.submit(spec()).id)
        if streamed:
            next(following)
        between.cut()
        mending = threading.Timer(0.1, between.mend)
        mending.start()
        assert next(following).status.value == "queued"
        with writing(engine, "test") as session:
            finish(session, claimed(session))
        assert list(following)[-1].verdict.value == "pass"
        mending.join()


def test_a_service_that_stays_away_is_given_up_and_the_job_is_named(
    service: Client, between: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PATIENCE_S", 0.1)
    posted = service.submit(spec())
    with Client(f"http://127.0.0.1:{between.port}", project="demo") as through:
        following = through.follow(posted.id)
        next(following)
        between.cut()
        with pytest.raises(
            NotSettledError, match=f"nothing was heard of job {posted.id} for 0.1 s: no service"
        ):
            list(following)


def test_a_service_that_never_answered_is_not_waited_for(between: Proxy) -> None:
    between.cut()
    with (
        Client(f"http://127.0.0.1:{between.port}", project="demo") as through,
        pytest.raises(UnavailableError, match="no service answers at"),
    ):
        through.wait("0" * 26)


def test_a_job_is_asked_for_where_too_many_wait(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PAUSE_S", 0.01)
    with (
        serving(settings.model_copy(update={"max_waiters": 1}), engine) as api,
        Client(str(api.base_url), project="demo") as service,
    ):
        waited_for, other = service.submit(spec()), service.submit(spec())
        with api.stream("GET", f"/v1/projects/demo/jobs/{other.id}/events") as stream:
            assert stream.is_success
            following = service.follow(waited_for.id)
            assert [next(following).status.value for _ in range(2)] == ["queued", "queued"]
            with writing(engine, "test") as session:
                finish(session, claimed(session))
            assert list(following)[-1].verdict.value == "pass"


def test_the_service_says_when_to_ask_again() -> None:
    problem = {"type": "urn:noisefloor:problem:unavailable", "title": "x", "status": 503, "detail": "x"}
    for after, found in (("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)):
        answer = httpx.Response(503, json=problem, headers={"Retry-After": after})
        error = http._refusal(answer)
        assert isinstance(error, RefusedError)
        assert error.after_s == found


def test_a_line_that_was_broken_off_is_none() -> None:
    assert list(http._lines(iter([b"data: {", b'"a":1}\n', b"\ndata: {"]))) == [b'data: {"a":1}', b""]


@pytest.fixture
def lossy(api: httpx.Client) -> Iterator[str]:
    """A proxy before the service: it hands the first request on, and loses the answer."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent = {name: self.headers[name] for name in ("Content-Type", "Idempotency-Key")}
            answer = api.post(self.path, content=body, headers=sent)
            asked.append(self.path)
            lost = len(asked) == 1
            content = b"<h1>Bad gateway</h1>" if lost else answer.content
            self.send_response(502 if lost else answer.status_code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_push_whose_answer_is_lost_is_repeated_and_is_one_job(
    lossy: str, service: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "PAUSES_S", (0.0, 0.0))
    with Client(lossy, project="demo") as client:
        pushed = client.push(MEASURED, idempotency_key="a")
    assert [job.id for job in service.jobs()] == [pushed.id]
