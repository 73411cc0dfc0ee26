"""The front: the process that clients talk to. It parses, batches and answers; it never runs a model."""

import asyncio
import gc
import logging
import socket
import time
from pathlib import Path

from shoal.base import ShoalError
from shoal.runtime import Context
from shoal.serve.admission import AdmissionLimits
from shoal.serve.auth import KeyCheck
from shoal.serve.channel import Done, Failed, FromReplica, Hello, Loaded, LoadFailed
from shoal.serve.connection import Connection, Patience
from shoal.serve.desk import Desk
from shoal.serve.dispatch import Dispatcher
from shoal.serve.journal import Journal
from shoal.serve.link import ReplicaLink
from shoal.serve.messages import (
    CannotListen,
    Configure,
    FromFront,
    Listening,
    Plan,
    Problem,
    Serving,
    Sync,
    Synced,
    encode_message,
    read_for_front,
)
from shoal.serve.metrics import Metrics
from shoal.serve.models import Models
from shoal.serve.queue import Key
from shoal.serve.rollout import View, decide
from shoal.serve.router import Shares

_LOG = logging.getLogger(__name__)
_SWEEP_S = 0.5
# With the log's own commits: how long an answered row may be in memory alone.
_FLUSH_S = 0.05
_DRAIN_LOOK_S = 0.01
# Clients that all connect at once should wait a moment, not be turned away.
_BACKLOG = 1024


def run_front(
    context: Context,
    *,
    host: str,
    socket_path: str,
    target_ms: float,
    log_folder: str | None,
    most_wait_s: float,
    most_batch_s: float,
    most_body_bytes: int,
    drain_s: float,
) -> None:
    """The entry of the front's process: serve until told to stop, then answer what is in and end."""
    import uvloop

    message = _first_message(context)
    if message is None:
        return
    try:
        listener = _listen(host, message.port)
    except OSError as error:
        context.report(encode_message(_cannot_listen(host, message.port, error)))
        return
    # What was imported stays for ever: the collector need not walk through it while requests wait.
    gc.collect()
    gc.freeze()
    front = Front(
        context,
        key=KeyCheck(message.api_key),
        target_ms=target_ms,
        most_batch_s=most_batch_s,
        log_folder=None if log_folder is None else Path(log_folder),
        limits=AdmissionLimits(most_wait_s=most_wait_s),
        most_body_bytes=most_body_bytes,
    )
    uvloop.run(front.serve(listener, socket_path, message.plan, drain_s=drain_s))


def _first_message(context: Context) -> Configure | None:
    while (data := context.receive()) is not None:
        message = read_for_front(data)
        # A plan may have been sent to the front that died, just as this one took its place: it is in Configure too.
        if isinstance(message, Configure):
            return message
    return None


class Front:
    """Joins the parts: clients' connections, replicas' links, the supervisor's messages. One event loop, one thread."""

    def __init__(
        self,
        context: Context,
        *,
        key: KeyCheck,
        target_ms: float,
        most_batch_s: float,
        log_folder: Path | None,
        limits: AdmissionLimits,
        most_body_bytes: int,
    ) -> None:
        self._context = context
        self._most_body_bytes = most_body_bytes
        self._most_queued_s = max(30.0, limits.most_wait_s)
        self._models = Models()
        metrics = Metrics()
        self._journal = Journal(log_folder, metrics)
        self._dispatcher = Dispatcher(
            self._models, self._journal, metrics, target_ms=target_ms, most_batch_s=most_batch_s
        )
        self._desk = Desk(self._models, self._dispatcher, self._journal, metrics, key=key, limits=limits)
        self._paths: dict[Key, str] = {}
        self._num_links = 0
        self._told = b""
        self._stopping = asyncio.Event()
        # The loop itself holds tasks only weakly.
        self._syncing: set[asyncio.Future[None]] = set()

    async def serve(self, listener: socket.socket, socket_path: str, plan: Plan, *, drain_s: float) -> None:
        """Serve until the supervisor says stop, and drain for at most `drain_s`."""
        loop = asyncio.get_running_loop()
        self._follow(plan)
        replicas = _listen_to_replicas(socket_path)
        clients = await loop.create_server(self._connection, sock=listener, backlog=_BACKLOG)
        self._report(Listening(listener.getsockname()[1]))
        loop.add_reader(replicas, self._on_replica, replicas)
        loop.add_reader(self._context.fileno(), self._on_supervisor)
        chores = [loop.create_task(self._sweep_forever()), loop.create_task(self._flush_forever())]
        await self._stopping.wait()
        self._desk.is_draining = True
        deadline_s = loop.time() + drain_s
        # Not only what waits or runs: a request whose head was let in is answered when its body has come.
        while any(connection.is_busy for connection in self._desk.connections) and loop.time() < deadline_s:
            await asyncio.sleep(_DRAIN_LOOK_S)
        # Listening went on until here, so that new clients heard 503 rather than nothing.
        for chore in chores:
            chore.cancel()
        clients.close()
        for connection in list(self._desk.connections):
            connection.close()
        # One more turn, so that the last answers and the closes get out.
        await asyncio.sleep(0.05)
        loop.remove_reader(replicas)
        replicas.close()
        for link in self._dispatcher.links.values():
            link.close()
        self._journal.close()

    def on_frame(self, link: ReplicaLink, frame: FromReplica) -> None:
        """Hear a replica."""
        if isinstance(frame, Done):
            self._dispatcher.on_done(link, frame)
        elif isinstance(frame, Failed):
            self._dispatcher.on_failed(link, frame)
        elif isinstance(frame, Loaded):
            self._on_loaded(link, frame)
        elif isinstance(frame, LoadFailed):
            self._note_problem(frame.model, frame.version, frame.message, frame.next_step)
            self._advance()
        elif isinstance(frame, Hello):
            self._advance()

    def on_lost(self, link: ReplicaLink) -> None:
        """Hear of a replica's death."""
        self._dispatcher.on_lost(link)
        self._advance()

    def _on_loaded(self, link: ReplicaLink, frame: Loaded) -> None:
        key = Key(frame.model, frame.version)
        if self._paths.get(key) != frame.path:
            # Loaded for an earlier front or plan under a number that now means another package: it must go.
            link.unload(key)
        else:
            try:
                self._journal.open(self._models.add(frame))
            except ShoalError as error:
                self._note_problem(frame.model, frame.version, error.message, error.next_step)
        self._advance()
        self._dispatcher.pump_soon()

    def _connection(self) -> Connection:
        return Connection(self._desk, most_body_bytes=self._most_body_bytes, patience=Patience())

    def _on_replica(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            # It left before it was welcomed, and will come again.
            return
        self._num_links += 1
        self._dispatcher.links[self._num_links] = ReplicaLink(connection, self._num_links, self)

    def _on_supervisor(self) -> None:
        while (data := self._context.receive_nowait()) is not None:
            message = read_for_front(data)
            # One that Configure has overtaken is old news.
            if isinstance(message, Plan) and message.generation > self._models.generation:
                self._follow(message)
                self._advance()
            elif isinstance(message, Sync):
                self._syncing.add(asyncio.ensure_future(self._sync(message.number)))
        if self._context.stopping.is_set():
            self._stopping.set()

    async def _sync(self, number: int) -> None:
        # In a thread: the disk may take its time, and requests should not wait for it.
        failure = self._journal.flush() or await asyncio.to_thread(self._journal.sync)
        self._report(Synced(number, failure))
        self._syncing = {task for task in self._syncing if not task.done()}

    def _follow(self, plan: Plan) -> None:
        self._models.plan, self._models.generation = plan.models, plan.generation
        # What failed is tried again for a new plan.
        self._desk.problems.clear()
        for link in self._dispatcher.links.values():
            link.failed.clear()
        for model, planned in plan.models.items():
            self._paths.update({Key(model, version): path for version, path in planned.versions.items()})

    def _advance(self) -> None:
        """Take the steps towards the plan that are possible now, and tell the supervisor where that is."""
        steps = decide(self._view())
        for model, shares in steps.switches.items():
            if shares:
                self._models.shares[model] = Shares.of(shares)
            else:
                del self._models.shares[model]
        links = self._dispatcher.links
        for number, key in steps.loads:
            links[number].load(key, self._paths[key])
        for number, key in steps.unloads:
            links[number].unload(key)
        if steps.unloads:
            self._forget()
        serving = Serving(
            self._models.generation,
            {model: dict(shares.by_version) for model, shares in self._models.shares.items()},
            list(self._desk.problems.values()),
        )
        # The sweep comes here twice a second; the supervisor wants to hear of changes alone. Compared as bytes, because
        # the order of shares counts: the main version stands first.
        told = encode_message(serving)
        if told != self._told:
            self._told = told
            self._context.report(told)

    def _view(self) -> View:
        links = self._dispatcher.links
        return View(
            plan=self._models.plan,
            shares={model: shares.by_version for model, shares in self._models.shares.items()},
            loaded={number: link.loaded for number, link in links.items()},
            asked={number: link.asked | link.failed for number, link in links.items()},
            busy=self._dispatcher.busy,
        )

    def _forget(self) -> None:
        kept = {key for link in self._dispatcher.links.values() for key in link.loaded}
        kept |= {Key(model, version) for model, planned in self._models.plan.items() for version in planned.versions}
        kept |= {Key(model, version) for model, shares in self._models.shares.items() for version in shares.versions}
        kept |= self._dispatcher.busy
        self._models.forget(kept)
        self._dispatcher.forget(kept)

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._journal.flush()

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = time.monotonic()
            for connection in list(self._desk.connections):
                connection.check(now_s)
            self._dispatcher.end_stuck(now_s)
            self._dispatcher.expire(now_s - self._most_queued_s)
            self._advance()

    def _note_problem(self, model: str, version: str, message: str, next_step: str) -> None:
        _LOG.warning("%s@%s is not served: %s; next: %s", model, version, message, next_step)
        self._desk.problems[f"{model}@{version}"] = Problem(model, version, message, next_step)

    def _report(self, message: FromFront) -> None:
        self._context.report(encode_message(message))


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted front needs the port while connections of the dead one are still winding down.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_to_replicas(socket_path: str) -> socket.socket:
    Path(socket_path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(socket_path)
    Path(socket_path).chmod(0o600)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _cannot_listen(host: str, port: int, error: OSError) -> CannotListen:
    return CannotListen(
        f"cannot listen on {host}:{port}: {error.strerror or error}",
        "stop what listens there, or choose another port; port=0 takes a free one",
    )
