"""How many connections a front may have, and what those beyond hear."""

import asyncio
import resource
from contextlib import suppress
from typing import cast

from shoal.serve.wire.http import finish, refusal
from shoal.serve.wire.refusal import RefusedError

# For the listener, the replicas, the log, files that are opened for a moment, and connections that are being refused.
_KEPT_FILES = 128
_LINGER_S = 1.0


def allow_connections(wanted: int | None) -> int:
    """Return how many connections this process can hold, at most `wanted`; raises its limit on open files if it may.

    Without a place kept free for them, new connections could not even be refused, and the log not be written.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # The soft limit is low for old programs that use select(); some systems allow less than the hard one says.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    possible = (1 << 20) if soft == resource.RLIM_INFINITY else max(1, soft - _KEPT_FILES)
    return possible if wanted is None else min(wanted, possible)


class TurnedAway(asyncio.Protocol):
    """A connection beyond the limit: it hears 503 at once, whatever it sends, and is closed."""

    def __init__(self, most: int) -> None:
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the event loop."""
        # uvloop's transports have the methods but not the class.
        stream = cast("asyncio.Transport", transport)
        refused = RefusedError(
            503,
            f"the server has its {self._most} connections",
            next_step="keep fewer connections open and use them again, or come back later",
            retry_after_s=1.0,
        )
        stream.write(finish(refusal(refused), closes=True, is_old=False, is_head_only=False))
        # Closing before the client has sent its request would reset the answer away.
        if stream.can_write_eof():
            stream.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, stream.close)
