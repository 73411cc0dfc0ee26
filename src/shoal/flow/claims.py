"""Claims: of all runs on one store, one computes a key at a time, and a dead run's claims are free at once."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from shoal.base import ConflictError, ShoalError, file_lock, new_id
from shoal.store import Store

# How long the claims of a run that vanished with its whole machine keep others waiting.
TTL_S = 60.0


class Claims:
    """The claims of one run. It holds a file lock as long as it lives: others on this home see its death by that.

    Claims are renewed by a thread until `close`. Safe from several threads.
    """

    def __init__(self, store: Store, *, ttl_s: float = TTL_S) -> None:
        self._memo = store.memo
        self._ttl_s = ttl_s
        self._folder = store.home / "flows"
        self.owner = new_id("flow-")
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._alive = ExitStack()
        self._closing = threading.Event()
        self._renewer: threading.Thread | None = None

    def take(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that this run may compute now; the others are being computed by another run."""
        if self._renewer is None:
            self._remove_abandoned()
            # Before the first claim: a claim without a held lock would look like a dead run's.
            self._alive.enter_context(file_lock(self._lock_file(self.owner), blocking=False))
            self._renewer = threading.Thread(target=self._renew, name="shoal-flow-claims", daemon=True)
            self._renewer.start()
        holders = self._memo.claim_many(keys, self.owner, self._ttl_s)
        dead = {owner for owner in {*holders.values()} - {self.owner} if self._is_dead(owner)}
        for key, owner in holders.items():
            if owner in dead:
                self._memo.release(key, owner)
        if dead:
            holders = self._memo.claim_many(keys, self.owner, self._ttl_s)
        taken = {key for key, owner in holders.items() if owner == self.owner}
        with self._lock:
            self._held |= taken
        return taken

    def forget(self, keys: Sequence[str]) -> None:
        """Stop renewing claims that were given back together with their results."""
        with self._lock:
            self._held -= set(keys)

    def give_back(self, keys: Sequence[str]) -> None:
        """Let others compute the keys."""
        self.forget(keys)
        for key in keys:
            self._memo.release(key, self.owner)

    def close(self) -> None:
        """Give back what is held, and end."""
        self._closing.set()
        if self._renewer is not None:
            self._renewer.join()
            self.give_back(sorted(self._held))
            self._lock_file(self.owner).unlink(missing_ok=True)
        self._alive.close()

    def _renew(self) -> None:
        while not self._closing.wait(self._ttl_s / 3):
            # Tells when the claims were last renewed, for as long as nobody can ask us.
            with suppress(FileNotFoundError):
                os.utime(self._lock_file(self.owner))
            with self._lock:
                held = sorted(self._held)
            if held:
                # A database that is too busy now is asked again at the next turn, of which there are three.
                with suppress(ShoalError):
                    self._memo.claim_many(held, self.owner, self._ttl_s)

    def _remove_abandoned(self) -> None:
        """Remove the lock files of dead runs whose claims have all lapsed."""
        # Not as soon as a run is dead: with the file goes what frees its other claims at once. Twice, as a renewal may
        # be a turn late.
        lapsed = time.time() - 2 * self._ttl_s
        for file in self._folder.glob("*.lock"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < lapsed and self._is_dead(file.stem):
                    file.unlink()

    def _is_dead(self, owner: str) -> bool:
        file = self._lock_file(owner)
        # No file: a run of another home, or one that is just ending. Its claims end by time.
        if not file.exists():
            return False
        try:
            with file_lock(file, blocking=False):
                return True
        except ConflictError:
            return False

    def _lock_file(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"
