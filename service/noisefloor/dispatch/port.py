"""The small interface that every execution engine fills: news of queued shards, sent and heard."""

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy.orm import Session


class Dispatch(Protocol):
    """Carries the news that shards are queued to workers that can run them."""

    def send(self, session: Session, shard_ids: Sequence[str]) -> None:
        """Announce queued shards, as part of the session's transaction."""


class News(Protocol):
    """A worker's end: hears that there may be something to do. Missed news costs a wait, and nothing else."""

    def __enter__(self) -> Self:
        """Begin to listen."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Listen no more."""

    def wait(self, timeout_s: float) -> None:
        """Sleep until shards are announced, at most `timeout_s`."""

    def wake(self) -> None:
        """Make every slot look for shards now."""
