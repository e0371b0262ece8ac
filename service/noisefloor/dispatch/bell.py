"""What slots sleep by: a bell that remembers that it was rung."""

import threading


class Bell:
    """Rung by whoever has news; a slot that sleeps wakes, or the next that would sleep does not."""

    def __init__(self) -> None:
        self._rung = threading.Condition()
        self._unheard = False

    def wait(self, timeout_s: float) -> None:
        """Sleep until the bell is rung, at most `timeout_s`."""
        with self._rung:
            if not self._unheard:
                self._rung.wait(timeout_s)
            self._unheard = False

    def wake(self) -> None:
        """Wake every slot that sleeps."""
        with self._rung:
            self._unheard = True
            self._rung.notify_all()
