"""The embedded engine: slots in the service's own process claim shards by priority."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from sqlalchemy import event
from sqlalchemy.orm import Session

from noisefloor.dispatch.bell import Bell
from noisefloor.failpoints import reach


class LocalDispatch(Bell):
    """Wakes the slots of this process when the transaction that queued shards has committed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.wake()

    def send(self, session: Session, shard_ids: Sequence[str]) -> None:
        """Wake the slots after the commit; a rollback wakes nobody."""
        if shard_ids:
            event.listen(session, "after_commit", self._committed, once=True)

    def _committed(self, _session: Session) -> None:
        reach("news.before_send")
        self.wake()
        reach("news.after_send")
