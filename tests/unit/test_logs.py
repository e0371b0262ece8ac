"""The log: one line a record, what it is about, and what it never says."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from noisefloor.telemetry import logs

JOB = "0655d8a1b2c3d4aabbccddeeff"

log = logging.getLogger("noisefloor.test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging of the tests themselves, put back."""
    root, hook = logging.getLogger(), threading.excepthook
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers, threading.excepthook = handlers, hook
    root.setLevel(level)
    for name in logs.OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error, logged to as JSON."""
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    logs.configure(as_json=True, level="info")
    return stream


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_line_says_what_it_is_about(written: io.StringIO) -> None:
    with logs.about(job=JOB, shard="s", worker=None), logs.about(attempt=2):
        log.info("cell %s", "x86")
    log.info("after")
    within, after = lines(written)
    assert within["message"] == "cell x86"
    assert (within["level"], within["logger"]) == ("info", "noisefloor.test")
    assert (within["job"], within["shard"], within["attempt"]) == (JOB, "s", 2)
    assert within["trace"] == JOB.rjust(32, "0")
    assert "worker" not in within
    assert within["time"].endswith("+00:00")
    assert not {"job", "trace", "attempt"} & after.keys()


def test_a_traceback_is_one_line_and_so_is_a_message_of_several(written: io.StringIO) -> None:
    try:
        int("first\nsecond")
    except ValueError:
        log.exception("it\nfailed")
    (only,) = lines(written)
    assert only["message"] == "it\nfailed"
    assert only["traceback"].startswith("Traceback")
    assert "ValueError: invalid literal" in only["traceback"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_an_error_is_logged(written: io.StringIO) -> None:
    def fails() -> None:
        raise RuntimeError("lost")

    thread = threading.Thread(target=fails, name="slot-0")
    thread.start()
    thread.join()
    (only,) = lines(written)
    assert (only["level"], only["message"]) == ("critical", "thread slot-0 ended")
    assert "RuntimeError: lost" in only["traceback"]


def test_only_what_is_ours_is_told_in_detail(written: io.StringIO) -> None:
    for name in ("sqlalchemy.engine.Engine", "httpx", "httpcore.http11"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    logging.getLogger("httpx").info("POST https://hooks.example/secret")
    log.debug("more than was asked for")
    assert lines(written) == []


def test_people_get_lines_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    logs.configure(as_json=False, level="warning")
    log.info("quiet")
    log.warning("loud")
    assert stream.getvalue().endswith("WARNING noisefloor.test: loud\n")
    assert "quiet" not in stream.getvalue()
    assert not logs.is_json()
