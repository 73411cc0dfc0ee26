"""Pictures decoded beside the event loop: small ones at once, large ones in threads, while requests go on."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from shoal.serve.wire.refusal import RefusedError, our_mistake

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
# 128 x 128: handing over to a thread and back costs about as much as decoding that.
MOST_INLINE_PIXELS = 1 << 14
_THREADS = 2
# About a second of work for the threads: what comes on top would wait too long.
_MOST_WAITING_PIXELS = 128_000_000


class Decoding:
    """Decodes for the desk. Used by the event loop alone.

    Attributes:
        num_bytes: of the bodies that wait or are being decoded.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._num_pixels = 0
        self._pool: ThreadPoolExecutor | None = None

    def run(
        self,
        work: Callable[[], T],
        *,
        num_pixels: int,
        num_bytes: int,
        then: Callable[[T], None],
        refuse: Callable[[RefusedError], None],
    ) -> None:
        """Work on a picture and call `then` with what came of it or `refuse` with what is wrong, at once or later.

        Args:
            work: what to do; in a thread, unless there are few pixels.
            num_pixels: that must be decoded, which is what the time goes to.
            num_bytes: of the body that the picture came in.
            then: called in the event loop; what it raises as RefusedError goes to `refuse`.
            refuse: called in the event loop.

        Raises:
            RefusedError: at once: the small picture is damaged, or too many large ones wait (503).
        """
        if num_pixels <= MOST_INLINE_PIXELS:
            then(work())
            return
        if self._num_pixels >= _MOST_WAITING_PIXELS:
            raise RefusedError(
                503,
                f"the server is busy: {self._num_pixels} pixels of pictures wait to be decoded",
                next_step="send it again after the seconds in Retry-After, or send smaller pictures",
                retry_after_s=1.0,
            )
        loop = asyncio.get_running_loop()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")
        self._num_pixels += num_pixels
        self.num_bytes += num_bytes

        def finish(done: "Future[T]") -> None:
            self._num_pixels -= num_pixels
            self.num_bytes -= num_bytes
            _tell(done, then, refuse)

        def finished(done: "Future[T]") -> None:
            # The server may have stopped meanwhile, and nobody waits for the answer.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finish, done)

        self._pool.submit(work).add_done_callback(finished)


def _tell(done: "Future[T]", then: Callable[[T], None], refuse: Callable[[RefusedError], None]) -> None:
    try:
        then(done.result())
    except RefusedError as refused:
        refuse(refused)
    except Exception:  # noqa: BLE001  # the boundary: a mistake of ours fails one request, and nobody waits for ever
        _LOG.exception("cannot take a decoded picture")
        refuse(our_mistake())
