"""The ASGI application: shoal's server inside another service, under that service's port and event loop."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from shoal.base import Secret, ShoalError, UnavailableError, UnsupportedError
from shoal.serve.batching.admission import draining
from shoal.serve.desk.connection import Patience
from shoal.serve.desk.desk import Desk
from shoal.serve.host.server import Server, check_installed
from shoal.serve.host.settings import ServeSettings
from shoal.serve.host.supervision import TakeIn
from shoal.serve.host.target import find_target
from shoal.serve.mount.call import AsgiCall, Receive, Scope, Send, send_refusal
from shoal.serve.mount.stay import Stay
from shoal.serve.wire.refusal import RefusedError
from shoal.store import Store

T = TypeVar("T")
# After a start that failed: so long requests hear of it at once, and none of them starts processes again.
_RETRY_S = 5.0


class Application:
    """An ASGI application that answers as shoal's own server does, from replicas of its own. See `asgi`.

    It lives in one event loop at a time, that of the first request or of `start`, and its coroutines are to be awaited
    there. The replicas are child processes of the host's; they end with it, however it ends.
    """

    def __init__(
        self,
        model: object,
        settings: ServeSettings,
        *,
        api_key: str | Secret | None = None,
        store: Store | None = None,
        follow: bool = True,
        patience: Patience | None = None,
    ) -> None:
        """Prepare; nothing is read or started before the first request or `start`."""
        self._model = model
        self._settings = settings
        self._api_key = api_key
        self._store = store
        self._follow = follow
        self._patience = patience or Patience()
        self._stay: Stay | None = None
        self._is_stopped = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For the ASGI server, or the application that this one is mounted in."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            # Before it was accepted: the client hears 403.
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise UnsupportedError(
                f"the ASGI server asks for {scope['type']!r}, which shoal does not speak",
                next_step="send http, lifespan or websocket, as ASGI 3 has them",
            )

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002  # as hosts call theirs
        """Serve while the block runs: the models are loaded before it, and all that is in is answered after it.

        It may be given to the host as its own lifespan (`FastAPI(lifespan=models.lifespan)`) or be entered there.

        Raises:
            ShoalError: as `start`.
        """
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """Return when the models can be asked. Idempotent.

        Raises:
            ShoalError: whatever `shoal.serve.start` raises.
            UnsupportedError: this is no loop of asyncio, or the application lives in another one.
        """
        self._is_stopped = False
        await self._enter(retries=True).server()

    async def stop(self) -> None:
        """Answer what is in, refuse what is new, seal the log, end the replicas. Idempotent."""
        self._is_stopped = True
        stay = self._stay
        if stay is not None and stay.loop is _running_loop():
            await stay.end()

    def pids(self) -> list[int]:
        """Process ids of the replicas; one that is just being restarted is absent.

        Raises:
            UnavailableError: it does not serve.
        """
        return list(self._server().pids()["replicas"])

    async def swap(self, name: str, versions: Mapping[str, object], shares: Mapping[str, float] | None = None) -> None:
        """Serve other versions of a model, or one more model, as `Server.swap`; `wait_for` waits."""
        await self._do(lambda server: server.swap(name, versions, shares))

    async def wait_for(
        self, name: str, version: int | str | None = None, canary: int | str | None = None, timeout_s: float = 30.0
    ) -> None:
        """Return when traffic goes to this version and to exactly this canary, as `Server.wait_for`."""
        await self._do(lambda server: server.wait_for(name, version, canary, timeout_s))

    async def sync_log(self, timeout_s: float = 10.0) -> None:
        """Return when every prediction answered so far can be read from the log, as `Server.sync_log`."""
        await self._do(lambda server: server.sync_log(timeout_s))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            desk = await self._desk()
        except RefusedError as refused:
            await send_refusal(scope, send, refused)
            return
        call = AsgiCall(desk, scope, most_body_bytes=self._settings.most_body_bytes, patience=self._patience)
        await call.run(receive, send)

    async def _desk(self) -> Desk:
        try:
            return await self._enter().desk()
        except RefusedError:
            raise
        except ShoalError as error:
            # Whoever runs the host finds the reason in its log; it may name paths that are nobody else's business.
            raise RefusedError(
                503,
                "the models of this service could not be started",
                next_step="look into the log of the host, or send it again later",
                retry_after_s=_RETRY_S,
            ) from error

    def _enter(self, *, retries: bool = False) -> Stay:
        """The stay in the loop that runs now; a new one where there is none."""
        loop, stay = _running_loop(), self._stay
        if stay is not None and stay.loop is not loop:
            if not (stay.is_over or stay.loop.is_closed()):
                raise UnsupportedError(
                    "the application is used from two event loops at once",
                    next_step="make one with shoal.serve.asgi for each loop",
                )
            stay.abandon()
            stay = None
        if self._is_stopped and (stay is None or stay.is_over):
            raise draining()
        if stay is None or (stay.is_over and (retries or not _has_just_failed(stay))):
            stay = self._stay = Stay(self._make_server)
        return stay

    def _make_server(self, take_in: TakeIn) -> Server:
        check_installed()
        target = find_target(self._model, self._store)
        settings = self._settings
        if settings.log_folder is None and target.store is not None:
            settings = replace(settings, log_folder=target.store.home / "predictions")
        return Server(target, settings, api_key=self._api_key, follow=self._follow, take_in=take_in)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop with an ASGI server that has this application alone, or a host that passes lifespan on."""
        await receive()
        try:
            await self.start()
        except ShoalError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _do(self, work: Callable[[Server], T]) -> T:
        # In a thread: it waits for the front, which lives in this loop.
        return await asyncio.to_thread(work, self._server())

    def _server(self) -> Server:
        server = None if self._stay is None else self._stay.running
        if server is None:
            raise UnavailableError("the models are not served yet, or no more", next_step="await start() first")
        return server


def asgi(
    model: object,
    *,
    replicas: int | tuple[int, int] = 2,
    target_ms: float = 10.0,
    api_key: str | Secret | None = None,
    log_folder: str | Path | None = None,
    store: Store | None = None,
    follow: bool = True,
    start_s: float = 60.0,
    most_wait_s: float = 1.0,
    most_batch_s: float = 10.0,
    prediction_cache_bytes: int = 0,
    sleep_after_s: float = 60.0,
) -> Application:
    """Return an ASGI application that serves a model, to be mounted in a FastAPI or Starlette service, or run alone.

    Requests are parsed, batched and answered in the host's event loop; replicas of its own run the model. Each of a
    host's workers has its own replicas, and needs a log folder of its own. Nothing is started before the first request,
    or before `Application.lifespan` is entered, which hosts do not do by themselves for what is mounted in them.

    Args:
        model: as `start` takes it, and likewise all that follows.
        replicas: processes that run the model, of each worker of the host; or (least, most).
        target_ms: what a request should take when the service keeps up.
        api_key: what requests must carry beside whatever the host asks for; None for no key.
        log_folder: where predictions are logged.
        store: the registry.
        follow: serve what an alias means at any time.
        start_s: how long loading may take before the start counts as failed.
        most_wait_s: a request that is predicted to wait longer is refused.
        most_batch_s: how long a replica may be at one batch.
        prediction_cache_bytes: for answers that are kept; 0 for no cache.
        sleep_after_s: with replicas=(0, most), how long nobody must ask before the last replica goes.

    Raises:
        ConfigError: an option is out of its range. What may be wrong with the model is told at the start.
    """
    settings = ServeSettings(
        replicas=replicas,
        target_ms=target_ms,
        # There is none: the host has the clients.
        port=0,
        log_folder=None if log_folder is None else Path(log_folder).absolute(),
        start_s=start_s,
        most_wait_s=most_wait_s,
        most_batch_s=most_batch_s,
        prediction_cache_bytes=prediction_cache_bytes,
        sleep_after_s=sleep_after_s,
    )
    return Application(model, settings, api_key=api_key, store=store, follow=follow)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise UnsupportedError(
            "cannot serve here: no event loop of asyncio runs",
            next_step="run the host on asyncio or uvloop, and await start() in its loop",
        ) from error


def _has_just_failed(stay: Stay) -> bool:
    return stay.failed_s is not None and time.monotonic() - stay.failed_s < _RETRY_S
