"""Failpoints: what they are set with, when they act, and that each stands in the code."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy.exc import OperationalError

import noisefloor
import noisefloor_workers
from noisefloor.errors import SettingsError
from noisefloor.failpoints import KNOWN, SENDS, Transaction, arm, reach

PACKAGES = [Path(package.__path__[0]) for package in (noisefloor, noisefloor_workers)]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def called(name: str, argument: int) -> list[str]:
    """What is given as this argument wherever the function is called."""
    found = []
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                    given = node.args[argument]
                    if isinstance(given, ast.Constant):
                        found.append(given.value)
    return found


def test_every_transaction_that_writes_has_a_name_of_its_own() -> None:
    assert sorted(called("writing", 1)) == sorted(get_args(Transaction))


def test_every_send_is_between_two_points() -> None:
    assert set(called("reach", 0)) == set(SENDS)


def test_a_point_fails_at_its_time_alone() -> None:
    arm("record.after_commit=raise*2")
    reach("record.after_commit")
    with pytest.raises(OperationalError, match=r"record\.after_commit"):
        reach("record.after_commit")
    reach("record.after_commit")


def test_a_send_fails_as_the_network_does() -> None:
    arm("http.before_send=raise,news.before_send=raise")
    for _ in range(2):
        with pytest.raises(OSError, match=r"http\.before_send"):
            reach("http.before_send")
    reach("http.after_send")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recrod.before_commit=kill", r"'recrod\.before_commit' is none; there are .*record\.before_commit"),
        ("record.before_commit=die", r"= 'die'; a point can kill, raise, kill\*N and raise\*N"),
        ("record.before_commit=kill*0", r"= 'kill\*0'"),
        ("record.before_commit", r"= ''"),
    ],
)
def test_what_is_no_point_or_action_is_refused_with_what_there_is(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        arm(text)
    assert len(KNOWN) == len(set(KNOWN))
