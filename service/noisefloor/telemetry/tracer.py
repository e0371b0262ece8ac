"""The tracer of the extra `otel`: a provider of our own, whose ids are those of jobs."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
)
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from noisefloor.telemetry.traces import trace_id

SPAN_DIGITS = 16

_root: ContextVar[str | None] = ContextVar("root", default=None)


class JobIds(RandomIdGenerator):
    """Ids by chance, but for the first span of a job, which has the job's."""

    def generate_trace_id(self) -> int:
        """The job's id."""
        return _trace_id(job) if (job := _root.get()) else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The end of the job's id."""
        return _root_span_id(job) if (job := _root.get()) else super().generate_span_id()


class JobTracer:
    """Records spans in the traces of jobs. The sampler is that of `OTEL_TRACES_SAMPLER`."""

    def __init__(self, exporter: SpanExporter, *, instance: str, at_once: bool = False) -> None:
        given = OTELResourceDetector().detect().attributes
        resource = Resource.create({SERVICE_NAME: "noisefloor", SERVICE_INSTANCE_ID: instance, **given})
        self._provider = TracerProvider(resource=resource, id_generator=JobIds(), shutdown_on_exit=False)
        process = SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter)
        self._provider.add_span_processor(process)
        self._tracer = self._provider.get_tracer("noisefloor")

    def root(
        self,
        name: str,
        job: str,
        *,
        started_ns: int,
        traceparent: str | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """Record the first span of a job, linked to the trace that its client sent."""
        token = _root.set(job)
        try:
            self._tracer.start_span(
                name,
                context=Context(),
                kind=SpanKind.SERVER,
                start_time=started_ns,
                attributes=attributes,
                links=_links(traceparent),
            ).end()
        finally:
            _root.reset(token)

    def step(
        self, name: str, job: str, *, started_ns: int, attributes: Mapping[str, Any]
    ) -> AbstractContextManager[Span]:
        """A span below the current one of the job, or below its first."""
        return self._tracer.start_as_current_span(
            name, context=self._parent(job), start_time=started_ns, attributes=attributes
        )

    def finish(self) -> None:
        """Send what is not sent yet, and record no more."""
        self._provider.shutdown()

    def _parent(self, job: str) -> Context:
        current = trace.get_current_span()
        if current.get_span_context().trace_id == _trace_id(job):
            return trace.set_span_in_context(current)
        # Whether the first span was sampled follows from its trace's id, in every process alike.
        decision = self._provider.sampler.should_sample(None, _trace_id(job), "POST job").decision
        flags = TraceFlags.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT
        first = SpanContext(
            trace_id=_trace_id(job),
            span_id=_root_span_id(job),
            is_remote=True,
            trace_flags=TraceFlags(flags),
        )
        return trace.set_span_in_context(NonRecordingSpan(first))


def exporter_of(name: str) -> SpanExporter:
    """The exporter that `OTEL_TRACES_EXPORTER` names. ValueError for one that is not there."""
    kinds: dict[str, type[SpanExporter]] = {"otlp": OTLPSpanExporter, "console": ConsoleSpanExporter}
    if name not in kinds:
        raise ValueError(f"OTEL_TRACES_EXPORTER is {name!r}; there are: {', '.join(kinds)}, none")
    return kinds[name]()


def _trace_id(job: str) -> int:
    return int(trace_id(job), 16)


def _root_span_id(job: str) -> int:
    return int(job[-SPAN_DIGITS:], 16) or 1


def _links(traceparent: str | None) -> list[Link]:
    if traceparent is None:
        return []
    sent = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    context = trace.get_current_span(sent).get_span_context()
    return [Link(context)] if context.is_valid else []
