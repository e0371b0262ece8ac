"""Traces: one id from request to cell, in every process alike."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine
from tests.measuring import claimed, finish
from tests.samples import spec

from noisefloor.dispatch.local import LocalDispatch
from noisefloor.settings import Settings
from noisefloor.store.session import writing
from noisefloor.telemetry import traces
from noisefloor.telemetry.tracer import JobTracer
from noisefloor.workflow.submit import submit

JOB = "0655d8a1b2c3d4aabbccddeeff"
SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

NO_SDK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("opentelemetry.sdk"):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What is recorded, as it ends."""
    exporter = InMemorySpanExporter()
    traces.use(JobTracer(exporter, instance="test", at_once=True))
    yield exporter
    traces.use(None)


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_the_first_span_is_that_of_every_process(spans: InMemorySpanExporter) -> None:
    with traces.span("shard", JOB), traces.span("cell", JOB, seconds_ago=2.0, status="done"):
        pass
    token = traces.arrival.set(traces.Arrival(at_ns=1, traceparent=SENT))
    traces.begin(JOB, project="demo")
    traces.arrival.reset(token)
    found = by_name(spans)
    root, shard, cell = found["POST job"], found["shard"], found["cell"]
    assert {span.context.trace_id for span in found.values()} == {int(JOB, 16)}
    assert root.parent is None
    assert root.start_time == 1
    assert [f"{link.context.trace_id:032x}" for link in root.links] == [SENT.split("-")[1]]
    assert shard.parent is not None
    assert cell.parent is not None
    assert shard.parent.span_id == root.context.span_id
    assert cell.parent.span_id == shard.context.span_id
    assert cell.attributes == {"noisefloor.status": "done"}
    assert cell.end_time - cell.start_time >= 2e9  # type: ignore[operator]


@pytest.mark.parametrize("sent", ["nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ff" * 40])
def test_a_trace_that_is_none_is_not_linked(spans: InMemorySpanExporter, sent: str) -> None:
    traces.arrival.set(traces.Arrival(at_ns=1, traceparent=sent))
    traces.begin(JOB)
    assert by_name(spans)["POST job"].links == ()


def test_a_job_is_sampled_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    kept = 0
    for number in range(40):
        job = f"0655d8a1b2{number * 1600:04x}" + "ab" * 6
        exporters = InMemorySpanExporter(), InMemorySpanExporter()
        service, worker = (JobTracer(one, instance="i", at_once=True) for one in exporters)
        service.root("POST job", job, started_ns=1, traceparent=None, attributes={})
        with worker.step("shard", job, started_ns=1, attributes={}):
            pass
        first, second = (len(one.get_finished_spans()) for one in exporters)
        assert first == second
        kept += first
    assert 0 < kept < 40


def test_a_job_begins_its_trace_once_it_is_there(
    spans: InMemorySpanExporter, engine: Engine, settings: Settings
) -> None:
    dispatch = LocalDispatch()
    for _ in range(2):  # the same request sent again is the same job
        with writing(engine, "test") as session:
            given = {"project": "demo", "spec": spec(), "settings": settings, "dispatch": dispatch}
            job = submit(session, idempotency_key="k", **given)  # type: ignore[arg-type]
            assert len([s for s in spans.get_finished_spans() if s.name == "POST job"]) in {0, 1}
    with writing(engine, "test") as session:
        finish(session, claimed(session))
    names = sorted(span.name for span in spans.get_finished_spans())
    assert names == ["POST job", "judge", "plan", "settle"]
    assert {span.context.trace_id for span in spans.get_finished_spans()} == {int(job.id, 16)}


def test_a_job_that_was_rolled_back_has_no_first_span(
    spans: InMemorySpanExporter, engine: Engine, settings: Settings
) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine, "test") as session:
        submit(session, project="demo", spec=spec(), settings=settings, dispatch=LocalDispatch())
        raise ZeroDivisionError
    assert "POST job" not in by_name(spans)


IMPORTED = """
import sys, noisefloor.api.app, noisefloor_workers.worker
from noisefloor.telemetry import traces
"""


def run(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORTED + code],
        env={"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_nothing_of_the_sdk_is_imported_where_nobody_asks(tmp_path: Path) -> None:
    asked = run(tmp_path, "traces.configure(); print([m for m in sys.modules if 'opentelemetry.sdk' in m])")
    assert asked.stdout == "[]\n"


def test_without_the_extra_the_log_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_SDK)
    asked = run(
        tmp_path, "traces.configure(); print(traces.enabled())", OTEL_EXPORTER_OTLP_ENDPOINT="http://[::1]:9"
    )
    assert asked.stdout == "False\n"
    assert "noisefloor[otel]" in asked.stderr
