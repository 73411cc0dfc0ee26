"""Clients' wishes to load and unload models, while they wait for the supervisor, which alone changes the plan."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shoal.base import new_token
from shoal.serve.links.messages import Wish, WishDone
from shoal.serve.wire.refusal import RefusedError

# Wishes of one front that may wait at once. They are rare: more are a client that has run wild.
_MOST_WISHES = 32
_OK, _NOT_FOUND, _UNAVAILABLE = 200, 404, 503
_EXPECTED = "a model of the server's folder or registry, or one that it was started with"


@dataclass(frozen=True, slots=True)
class _Waiting:
    done: Callable[[], None]
    refuse: Callable[[RefusedError], None]


class Wishes:
    """Sends wishes to the supervisor, and its answers to whom they are for. Used by the event loop alone."""

    def __init__(self, send: Callable[[Wish], None]) -> None:
        self._send = send
        self._waiting: dict[str, _Waiting] = {}
        # The supervisor may still answer a front that died: no id of its successor may be the same.
        self._token = new_token(10)
        self._num_wishes = 0

    @property
    def num_waiting(self) -> int:
        """Wishes that are not answered."""
        return len(self._waiting)

    def make(
        self,
        action: Literal["load", "unload"],
        model: str,
        done: Callable[[], None],
        refuse: Callable[[RefusedError], None],
    ) -> None:
        """Have a model loaded or unloaded; `done` or `refuse` is called once, later.

        Raises:
            RefusedError: 503, too many wishes wait.
        """
        if len(self._waiting) >= _MOST_WISHES:
            raise RefusedError(
                _UNAVAILABLE,
                f"{_MOST_WISHES} models are being loaded or unloaded already",
                next_step="send it again when one of them is done",
                retry_after_s=1.0,
            )
        self._num_wishes += 1
        wish = Wish(f"{self._token}{self._num_wishes:x}", action, model)
        self._waiting[wish.id] = _Waiting(done, refuse)
        self._send(wish)

    def on_done(self, message: WishDone) -> None:
        """Hear what became of a wish."""
        waiting = self._waiting.pop(message.id, None)
        if waiting is None:
            return
        if message.status == _OK:
            waiting.done()
            return
        waiting.refuse(
            RefusedError(
                message.status,
                message.message,
                field="path" if message.status == _NOT_FOUND else None,
                expected=_EXPECTED if message.status == _NOT_FOUND else None,
                next_step=message.next_step,
                retry_after_s=1.0 if message.status == _UNAVAILABLE else None,
            )
        )

    def refuse_all(self, refused: RefusedError) -> None:
        """Answer all that wait: nobody will hear any more what becomes of them."""
        waiting, self._waiting = list(self._waiting.values()), {}
        for each in waiting:
            each.refuse(refused)
