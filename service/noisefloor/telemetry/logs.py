"""The log: lines for people, or one JSON object a line; and what a line is about."""

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from noisefloor.telemetry.traces import trace_id

# What others log below a warning is statements with their parameters, and requests with their headers.
OURS = ("noisefloor", "noisefloor_workers", "uvicorn")
ACCESS = "uvicorn.access"
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_about: ContextVar[Mapping[str, str | int]] = ContextVar("about", default=MappingProxyType({}))

log = logging.getLogger(__name__)


@contextmanager
def about(**known: str | int | None) -> Iterator[None]:
    """Put a job, a shard, a worker … into every record that is made within. None is left out."""
    token = _about.set({**_about.get(), **{name: it for name, it in known.items() if it is not None}})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """The time is RFC 3339 in UTC."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_about.get(),
        }
        if isinstance(job := entry.get("job"), str):
            entry["trace"] = trace_id(job)
        if record.name == ACCESS and isinstance(record.args, tuple):
            entry.update(zip(("client", "method", "path", "http", "status"), record.args, strict=False))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(*, as_json: bool, level: str) -> None:
    """Log to standard error. `level` is for what is ours; of others, warnings are logged."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if as_json else logging.Formatter(TEXT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    threading.excepthook = _uncaught


def is_json() -> bool:
    """Whether this process logs lines of JSON, so that nothing else belongs on standard error."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


def _uncaught(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and args.exc_type is not SystemExit:
        name = args.thread.name if args.thread else "?"
        log.critical("thread %s ended", name, exc_info=args.exc_value)
