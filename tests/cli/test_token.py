"""A wrong token, or none: one sentence and exit code 2, before anything is measured."""

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine
from tests.conftest import serving
from tests.samples import job

from noisefloor.cli.main import run
from noisefloor.settings import Settings

JOB = "0" * 26


@pytest.fixture
def guarded(engine: Engine, settings: Settings) -> Iterator[httpx.Client]:
    """A service with a token."""
    with serving(Settings.model_validate({**settings.model_dump(), "token": "s3cret"}), engine) as api:
        yield api


@pytest.mark.parametrize(
    ("token", "said"), [("wrong", "the token is not this service's"), (None, "a token is needed")]
)
def test_each_command_that_needs_the_token_says_so(
    guarded: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, said: str
) -> None:
    if token is not None:
        monkeypatch.setenv("NOISEFLOOR_TOKEN", token)
    monkeypatch.setenv("NOISEFLOOR_URL", str(guarded.base_url))
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job()))
    for command in (
        ["submit", "--no-git", str(file)],
        ["wait", JOB],
        ["gate", JOB],
        ["run", "--push", "--no-git", str(file)],
    ):
        monkeypatch.setattr(sys, "argv", ["noisefloor", *command])
        with contextlib.redirect_stderr(io.StringIO()) as told, pytest.raises(SystemExit) as ended:
            run()
        sentence = told.getvalue().strip()
        assert ended.value.code == 2, command
        assert f"{said}: give --token, or set NOISEFLOOR_TOKEN" in sentence, command
        assert sentence.count("\n") == 0, command
