"""One runner for all tests of this folder: starting torch is what takes the time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noisefloor_workers.runner.messages import ShardTask
from noisefloor_workers.runner.supervisor import Runner

TESTS = Path(__file__).parents[1]
ENGINES = ("qnnpack", "onednn", "x86")
SMALL = {"calibration": {"shape": [16, 4]}, "evaluation": {"shape": [8, 4]}}
STATIC = {"flow": "eager", "mode": "static", "edge": "float32->true"}


@pytest.fixture(scope="session")
def importable() -> Iterator[Path]:
    """`subjects_under_test` can be imported here and in children."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.syspath_prepend(str(TESTS))
        yield TESTS


@pytest.fixture(scope="session")
def runner(importable: Path) -> Iterator[Runner]:
    assert importable
    with Runner() as session_runner:
        yield session_runner


@pytest.fixture
def shard() -> Callable[..., ShardTask]:
    """A task: by default one static cell on each of three engines, named after the engine."""

    def build(path: str, *, args: dict[str, Any] | None = None, **changes: Any) -> ShardTask:
        isa = changes.get("isa", "native")
        cells = [
            {"cell": engine, "scheme": STATIC, "lane": {"engine": engine, "isa": isa}} for engine in ENGINES
        ]
        subject = {"import": f"subjects_under_test.{path}", "args": args or {}, "data": SMALL}
        return ShardTask.model_validate(
            {"subject": subject, "cells": cells, "import_allow": ["subjects_under_test"], **changes}
        )

    return build
