"""Looks at something again and again, in a thread of its own, and goes on whatever that raises."""

import logging
import threading
from collections.abc import Callable

_LOG = logging.getLogger(__name__)


class Looker:
    """Calls `look` every so often, once `start` is called. Any thread may call any method."""

    def __init__(self, look: Callable[[], None], *, every_s: float, name: str, failed: str) -> None:
        """Prepare.

        Args:
            look: what to call; after an error it is called again the next time.
            every_s: from the end of one look to the next.
            name: of the thread.
            failed: what to log before the error's text, which is said once and not each time.
        """
        self._look = look
        self._every_s = every_s
        self._failed = failed
        self._failure = ""
        self._is_stopping = False
        self._wish = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def look_now(self) -> None:
        """Do not wait for the next regular look."""
        self._wish.set()

    def stop(self) -> None:
        """Return when the last look is over. Idempotent."""
        self._is_stopping = True
        self._wish.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._is_stopping:
            self._wish.wait(self._every_s)
            self._wish.clear()
            try:
                self._look()
                self._failure = ""
            except Exception as error:  # noqa: BLE001  # the boundary: whatever is raised, the thread goes on
                # What is served goes on being served, and the next look tries again; it need not say so each time.
                if str(error) != self._failure:
                    self._failure = str(error)
                    _LOG.warning("%s: %s", self._failed, error)
