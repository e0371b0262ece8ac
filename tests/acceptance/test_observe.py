"""A real job with all that observes it switched on: its log, its trace, and secrets that stay so."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy.engine import make_url
from tests.ci.providers import Got, Said, StandIn
from tests.postgres import PostgresServer
from tests.samples import imported, job
from tests.service import LiveService

from noisefloor.store.session import open_engine

TOKEN, PASSWORD = "token-that-is-secret", "password-that-is-secret"
WHSEC = "whsec_c2VjcmV0LXRoYXQtaXMtb25seS1mb3ItdGVzdHM="
GITHUB = "github-token-that-is-secret"
IN_ADDRESS = "address-that-is-secret"
SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver:
    """What spans are exported to: OTLP over HTTP, as OpenTelemetry defines it."""

    def __init__(self) -> None:
        receiver = self
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for found in ExportTraceServiceRequest.FromString(body).resource_spans:
                    receiver.resources.append(
                        {one.key: one.value.string_value for one in found.resource.attributes}
                    )
                    for scope in found.scope_spans:
                        receiver.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, job_id: str) -> list[Span]:
        """The spans of a job's trace."""
        return [span for span in self.spans if span.trace_id.hex() == job_id.rjust(32, "0")]


class Observed:
    """What was seen of the jobs that a service measured, once it has stopped."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.log: list[str] = []
        self.good = self.broken = ""

    def lines(self, **about: Any) -> list[dict[str, Any]]:
        """The records about something."""
        every = [json.loads(line) for line in self.log]
        return [line for line in every if about.items() <= line.items()]


@pytest.fixture(scope="module")
def observed(postgres_server: PostgresServer) -> Iterator[Observed]:
    """A service that was shown every secret, and that went through errors of all kinds."""
    plain = postgres_server.create("observed")
    database = make_url(plain).set(password=PASSWORD).render_as_string(hide_password=False)

    def answer(_got: Got) -> Said:
        return Said(status=204)

    with Receiver() as receiver, StandIn(answer) as chat:
        seen = Observed(receiver)
        with LiveService(
            database,
            NOISEFLOOR_LOG="json",
            NOISEFLOOR_LOG_LEVEL="debug",
            NOISEFLOOR_TOKEN=TOKEN,
            NOISEFLOOR_GITHUB_TOKEN=GITHUB,
            NOISEFLOOR_GITHUB_WEBHOOK_SECRETS=WHSEC,
            NOISEFLOOR_WEBHOOK_ALLOW_PRIVATE="true",
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            OTEL_BSP_SCHEDULE_DELAY="600000",  # all is sent at the end
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test",
        ) as service:
            service.http.headers["Authorization"] = f"Bearer {TOKEN}"
            for name, url in (
                ("chat", f"{chat.url}/{IN_ADDRESS}"),
                ("gone", f"http://127.0.0.1:9/{IN_ADDRESS}"),
            ):
                made = service.http.put(
                    f"/v1/projects/default/webhooks/{name}", json={"url": url, "secret": WHSEC}
                )
                assert made.is_success, made.text
            service.http.headers["traceparent"] = SENT
            seen.good = service.submit(job())["id"]
            del service.http.headers["traceparent"]
            seen.broken = service.submit(imported("misbehaving:raises"))["id"]
            service.wait(seen.good)
            service.wait(seen.broken)
            service.http.get("/v1/workers", headers={"Authorization": f"Bearer {TOKEN}x"})
            while not {"delivered", "pending"} <= {
                one["status"] for one in service.http.get("/v1/projects/default/deliveries").json()["items"]
            }:
                pass
            engine = open_engine(plain)
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE webhooks ADD CHECK (name <> 'third')")
            engine.dispose()
            failed = service.http.put(
                "/v1/projects/default/webhooks/third", json={"url": chat.url, "secret": WHSEC}
            )
            assert failed.is_error
        assert service.process.returncode == 0
        seen.log = service.log
        yield seen


def test_every_line_is_json_and_says_what_it_is_about(observed: Observed) -> None:
    (measured,) = [line for line in observed.lines(job=observed.good) if line["message"].endswith(": done")]
    assert measured["trace"] == observed.good.rjust(32, "0")
    assert {"shard", "cell", "worker", "attempt"} <= measured.keys()
    assert [line["level"] for line in observed.lines(job=observed.good, logger="noisefloor.workflow.submit")]
    assert any("settled" in line["message"] for line in observed.lines(job=observed.good))
    posts = observed.lines(
        logger="uvicorn.access", method="POST", path="/v1/projects/default/jobs", status=202
    )
    assert len(posts) == 2
    refused = observed.lines(logger="uvicorn.access", path="/v1/workers", status=401)
    assert len(refused) == 1


def test_no_secret_is_logged(observed: Observed) -> None:
    whole = "".join(observed.log)
    assert "INSERT INTO webhooks" in whole  # the statement that failed was logged
    for secret in (TOKEN, PASSWORD, GITHUB, WHSEC, WHSEC.removeprefix("whsec_"), IN_ADDRESS):
        assert secret not in whole


def test_a_jobs_spans_are_one_tree_below_its_request(observed: Observed) -> None:
    spans = observed.receiver.of(observed.good)
    names = {span.span_id: span.name for span in spans}
    tree = {(span.name, names.get(span.parent_span_id)) for span in spans}
    assert tree == {
        ("POST job", None),
        ("plan", "POST job"),
        ("shard", "POST job"),
        ("cell", "shard"),
        ("record", "cell"),
        ("settle", "record"),
        ("judge", "settle"),
        ("deliver", "POST job"),
    }
    (root,) = [span for span in spans if span.name == "POST job"]
    assert [link.trace_id.hex() for link in root.links] == [SENT.split("-")[1]]
    (cell,) = [span for span in spans if span.name == "cell"]
    said = {one.key: one.value for one in cell.attributes}
    assert said["noisefloor.status"].string_value == "done"
    assert said["noisefloor.lane"].string_value == "x86"
    assert said["noisefloor.attempt"].int_value == 1
    assert said["noisefloor.label"].string_value.endswith("· x86")
    assert {one["service.name"] for one in observed.receiver.resources} == {"noisefloor"}
    assert {one["deployment.environment"] for one in observed.receiver.resources} == {"test"}


def test_a_cell_that_failed_says_so_in_its_trace(observed: Observed) -> None:
    (cell,) = [span for span in observed.receiver.of(observed.broken) if span.name == "cell"]
    said = {one.key: one.value.string_value for one in cell.attributes}
    assert said["noisefloor.status"] == "failed"


def test_what_cannot_start_says_so_in_lines_of_json(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "noisefloor.cli", "serve", "--port", "0"],
        env={**os.environ, "NOISEFLOOR_DATABASE": f"sqlite:///{tmp_path}/new.db", "NOISEFLOOR_LOG": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    (said,) = [json.loads(line) for line in refused.stderr.splitlines()]
    assert (said["level"], said["logger"]) == ("critical", "noisefloor")
    assert "noisefloor db upgrade" in said["message"]
