"""The embedded engine: slots in the service's own process claim shards by priority."""

import threading
from collections.abc import Sequence

from sqlalchemy import event
from sqlalchemy.orm import Session


class LocalDispatch:
    """Wakes the slots of this process when the transaction that queued shards has committed."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._unseen = False
        self.attached = False

    def send(self, session: Session, shard_ids: Sequence[str]) -> None:
        """Wake the slots after the commit; a rollback wakes nobody."""
        if shard_ids:
            event.listen(session, "after_commit", self._committed, once=True)

    def waiting_for(self) -> str | None:
        """Nobody serves the shards where no worker is attached."""
        return (
            None
            if self.attached
            else "a worker: none is attached to this service; `noisefloor up` starts one"
        )

    def wait_for_news(self, timeout_s: float) -> None:
        """Sleep until shards are announced, at most `timeout_s`."""
        with self._news:
            if not self._unseen:
                self._news.wait(timeout_s)
            self._unseen = False

    def wake(self) -> None:
        """Make every slot look for shards now."""
        with self._news:
            self._unseen = True
            self._news.notify_all()

    def _committed(self, _session: Session) -> None:
        self.wake()
