"""The signals by which a launcher asks a process of its job to stop: SIGTERM, and SIGUSR1 some time before it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_AGAIN_S = 0.1


class AskedToStopError(KeyboardInterrupt):
    """The launcher wants the process to stop. A KeyboardInterrupt, as it means the same: end in order, and soon."""


class Signals:
    """What this process does when it is asked to stop: raise in the main thread, or tell somebody; once."""

    def __init__(self) -> None:
        self._was_asked = False
        self._is_catching = False
        self._tell: Callable[[], None] | None = None
        # Held to signal the main thread: never when the handlers are gone, or it would end the process.
        self._lock = threading.Lock()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle the signals inside the block; only the main thread can, in others nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._was_asked = False
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        self._is_catching = True
        try:
            yield
        finally:
            with self._lock:
                self._is_catching = False
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def told_to(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call `tell` inside the block instead of raising."""
        self._tell = tell
        try:
            yield
        finally:
            self._tell = None

    def raise_in_main_thread(self) -> None:
        """As if the launcher had asked this process itself, inside the block; any thread may call it."""
        threading.Thread(target=self._signal_main_thread, name="shoal-signal", daemon=True).start()

    def _signal_main_thread(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        while True:
            with self._lock:
                if not self._is_catching or self._was_asked:
                    return
                # A signal of its own, as nothing else wakes a main thread that waits.
                signal.pthread_kill(main, signal.SIGTERM)
            # And again: one that comes just before the thread begins to wait does not wake it.
            time.sleep(_AGAIN_S)

    def _handle(self, number: int, _: FrameType | None) -> None:
        # A second one must not disturb the end that the first has begun.
        if self._was_asked:
            return
        self._was_asked = True
        if self._tell is not None:
            self._tell()
            return
        raise AskedToStopError(f"asked to stop by {signal.Signals(number).name}")
