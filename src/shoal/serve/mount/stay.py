"""A server whose front is a guest in a loop, from its start to its end."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from shoal.base import ShoalError
from shoal.serve.desk.desk import Desk
from shoal.serve.host.server import Server
from shoal.serve.host.supervision import TakeIn
from shoal.serve.mount.guest import GuestFront

_LOG = logging.getLogger(__name__)


class Stay:
    """One server in one loop. Used by that loop alone, unless said otherwise.

    A thread supervises: starting and stopping take their time, and replicas that die come back while the loop is busy.
    When the loop ends, so does the server, in order where the loop cancels its tasks first, as `asyncio.run` does.

    Attributes:
        loop: where the front lives.
        failed_s: when the start failed, monotonic; None where it did not.
    """

    def __init__(self, make_server: Callable[[TakeIn], Server]) -> None:
        """Begin to start the server that `make_server` makes."""
        self.loop = asyncio.get_running_loop()
        self.failed_s: float | None = None
        self._guest = GuestFront(self.loop, linger=self._see_off)
        self._started: asyncio.Future[Server] = self.loop.create_future()
        self._over = asyncio.Event()
        self._ending = threading.Event()
        # Not joined at the interpreter's end: where nobody ended the stay, replicas see the process go, and go too.
        threading.Thread(target=self._supervise, args=(make_server,), name="shoal supervisor", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left; a start that failed is over too."""
        return self._over.is_set()

    @property
    def is_ending(self) -> bool:
        """Whether it takes no more requests."""
        return self._ending.is_set()

    @property
    def running(self) -> Server | None:
        """The server, where it is started and not yet told to end."""
        started = self._started
        if self.is_ending or not started.done() or started.cancelled() or started.exception() is not None:
            return None
        return started.result()

    async def server(self) -> Server:
        """The server, once its models can be asked; raises what its start raised."""
        return await asyncio.shield(self._started)

    async def desk(self) -> Desk:
        """Who answers requests, once the models can be asked; raises what the start raised."""
        await self.server()
        assert self._guest.front is not None
        return self._guest.front.desk

    async def end(self) -> None:
        """Answer what is in, refuse what is new, end all processes. Idempotent."""
        if not self._started.done():
            self._guest.leave()
        await self._see_off()

    def abandon(self) -> None:
        """Have the processes ended, as the loop is closed. For any thread."""
        self._ending.set()

    async def _see_off(self) -> None:
        self._ending.set()
        await self._over.wait()

    def _supervise(self, make_server: Callable[[TakeIn], Server]) -> None:
        try:
            server = make_server(self._guest.start)
        except BaseException as error:  # noqa: BLE001  # the boundary: it goes to whoever waits for the start
            _LOG.error("cannot start to serve: %s", error, exc_info=not isinstance(error, ShoalError))
            self._tell(partial(self._fail, error))
        else:
            self._tell(lambda: self._started.set_result(server))
            self._ending.wait()
            try:
                server.stop()
            except Exception:  # noqa: BLE001  # the boundary: nobody is left who could be told
                _LOG.exception("the server was not stopped in order")
        finally:
            self._tell(self._over.set)

    def _fail(self, error: BaseException) -> None:
        self.failed_s = time.monotonic()
        self._ending.set()
        self._started.set_exception(error)
        # Seen: nobody may be waiting for it any more.
        self._started.exception()

    def _tell(self, what: Callable[[], None]) -> None:
        # The loop is closed: nobody waits there.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(what)
