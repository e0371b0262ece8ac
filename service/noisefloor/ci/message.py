"""What a delivery carries, as its sender takes it."""

from noisefloor.contract.base import Value
from noisefloor.contract.delivery import Announcement, CheckTarget, Reasons
from noisefloor.contract.verdict import Verdict


class Message(Value):
    """An announcement with its reasons, and where people read on."""

    announcement: Announcement
    reasons: Reasons = Reasons()
    url: str | None = None

    @property
    def verdict(self) -> Verdict:
        return self.announcement.verdict


class Status(Message):
    """A message for the status beside a commit. `run_id` is the check run's, if one is open."""

    target: CheckTarget
    run_id: str | None = None
