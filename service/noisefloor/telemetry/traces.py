"""Traces: one for each job. The job's id is the trace's, so whoever knows the job can add to its trace.

Configured by the standard `OTEL_…` variables alone, and exported by the extra `otel`. Where they ask for
nothing, nothing of OpenTelemetry is imported.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from noisefloor.telemetry.tracer import JobTracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TRACE_DIGITS = 32

log = logging.getLogger(__name__)

_tracer: "JobTracer | None" = None


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """When the request that is being answered came, and the trace that its client sent with it."""

    at_ns: int
    traceparent: str | None


arrival: ContextVar[Arrival | None] = ContextVar("arrival", default=None)


def trace_id(job: str) -> str:
    """A job's id as a trace's: zeros before it, so that the random part stays where samplers look.

    >>> trace_id("0655d8a1b2c3d4aabbccddeeff")
    '0000000655d8a1b2c3d4aabbccddeeff'
    """
    return job.rjust(TRACE_DIGITS, "0")


def configure(environment: Mapping[str, str] = os.environ) -> None:
    """Start to export, if the environment asks for it. What is missing for it is logged, and no more."""
    global _tracer  # noqa: PLW0603 - a process has one
    exporter = environment.get("OTEL_TRACES_EXPORTER", "otlp" if _has_endpoint(environment) else "none")
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from noisefloor.telemetry.tracer import JobTracer, exporter_of
    except ImportError:
        log.warning("no traces: OTEL_… asks for them, and they need pip install 'noisefloor[otel]'")
        return
    try:
        _tracer = JobTracer(exporter_of(exporter), instance=f"{socket.gethostname()}:{os.getpid()}")
    except ValueError as error:
        log.warning("no traces: %s", error)


def use(tracer: "JobTracer | None") -> None:
    """Record with this tracer from now on, or with none."""
    global _tracer  # noqa: PLW0603 - a process has one
    _tracer = tracer


def enabled() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def begin(job: str, **attributes: str | int) -> None:
    """Record the job's first span, `POST job`: from the arrival of its request until now."""
    if _tracer is not None:
        came = arrival.get()
        _tracer.root(
            "POST job",
            job,
            started_ns=came.at_ns if came else time.time_ns(),
            traceparent=came.traceparent if came else None,
            attributes={"noisefloor.job": job, **_named(attributes)},
        )


@contextmanager
def span(
    name: str, job: str | None, *, seconds_ago: float = 0.0, **attributes: str | int | None
) -> Iterator["Span | None"]:
    """Record a step of a job, which began so many seconds ago. Without a job there is no trace."""
    if _tracer is None or job is None:
        yield None
        return
    started_ns = time.time_ns() - int(seconds_ago * 1e9)
    with _tracer.step(name, job, started_ns=started_ns, attributes=_named(attributes)) as step:
        yield step


def finish() -> None:
    """Send what is not sent yet."""
    if _tracer is not None:
        _tracer.finish()


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"noisefloor.{name}": value for name, value in attributes.items() if value is not None}


def _has_endpoint(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in ENDPOINTS)
