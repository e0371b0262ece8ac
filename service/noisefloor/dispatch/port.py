"""The small interface that every execution engine fills."""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy.orm import Session


class Dispatch(Protocol):
    """Carries shards' ids to workers that can run them."""

    def send(self, session: Session, shard_ids: Sequence[str]) -> None:
        """Announce queued shards, as part of the session's transaction."""

    def waiting_for(self) -> str | None:
        """Why queued shards do not move, or None when somebody serves them."""
