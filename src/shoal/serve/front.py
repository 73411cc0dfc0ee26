"""The front: the process that clients talk to. It parses, batches and answers; it never runs a model."""

import asyncio
import gc
import logging
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from shoal.base import ShoalError
from shoal.runtime import Context
from shoal.serve.admission import AdmissionLimits
from shoal.serve.auth import KeyCheck
from shoal.serve.channel import Done, Failed, FromReplica, Hello, Loaded, LoadFailed
from shoal.serve.connection import Connection, Patience
from shoal.serve.crowd import TurnedAway, allow_connections
from shoal.serve.desk import Desk
from shoal.serve.dispatch import Dispatcher
from shoal.serve.journal import Journal
from shoal.serve.link import ReplicaLink
from shoal.serve.listening import open_listener
from shoal.serve.liveness import Deadlines
from shoal.serve.liveness import decide as judge
from shoal.serve.messages import (
    CannotListen,
    Configure,
    FromFront,
    Listening,
    Plan,
    Problem,
    Pulse,
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
from shoal.serve.shared_desk import SharedDesk
from shoal.serve.totals import Totals

if TYPE_CHECKING:
    from shoal.serve.grpc import GrpcServer

_LOG = logging.getLogger(__name__)
_SWEEP_S = 0.5
# With the log's own commits: how long an answered row may be in memory alone.
_FLUSH_S = 0.05
_DRAIN_LOOK_S = 0.01
_CHECKED_AT_ONCE = 500
# Where all replicas have died, so long a request waits for one to come back.
_MOST_QUEUED_S = 30.0
# A version whose loading never ended is tried again after this many times as long: a network disk may have come back.
_RETRY_FACTOR = 5.0
# The least time for a replica to answer a ping: a busy machine should not look like a hanging process.
_ANSWER_S = 10.0
# A front that is one of several takes no connections before it can answer them, but does not hide for longer.
_MOST_QUIET_S = 2.0
# Clients that all connect at once should wait a moment, not be turned away.
_BACKLOG = 1024


def run_front(
    context: Context,
    *,
    host: str,
    socket_paths: list[str],
    counts_folder: str,
    target_ms: float,
    log_folder: str | None,
    most_wait_s: float,
    most_batch_s: float,
    most_load_s: float,
    most_body_bytes: int,
    most_connections: int | None,
    prediction_cache_bytes: int,
    drain_s: float,
    can_wake: bool,
) -> None:
    """The entry of a front's process: serve until told to stop, then answer what is in and end.

    Args:
        context: its rank says which of the `socket_paths` is its own.
        host: the address to listen on.
        socket_paths: for each front, where replicas find it.
        counts_folder: where fronts that are several tell each other what they count.
        target_ms: see `ServeSettings`, as for all that follows.
        log_folder: None for no log.
        most_wait_s: of all fronts together, as they share the replicas.
        most_batch_s: of one front alone.
        most_load_s: how long a replica may take to load one version.
        most_body_bytes: of one request.
        most_connections: of this front.
        prediction_cache_bytes: of all fronts together; 0 for no cache.
        drain_s: how long to go on answering.
        can_wake: whether replicas may all be away until requests wait.
    """
    import uvloop

    message = _first_message(context)
    if message is None:
        return
    num_fronts = len(socket_paths)
    try:
        port = message.port
        listener = open_listener(host, port, is_shared=num_fronts > 1)
        grpc_listener = None
        if message.grpc_port is not None:
            port = message.grpc_port
            grpc_listener = open_listener(host, port, is_shared=num_fronts > 1)
    except OSError as error:
        context.report(encode_message(cannot_listen(host, port, error)))
        return
    # What was imported stays for ever: the collector need not walk through it while requests wait.
    gc.collect()
    gc.freeze()
    limits = AdmissionLimits(most_wait_s=most_wait_s)
    front = Front(
        context,
        key=KeyCheck(message.api_key),
        target_ms=target_ms,
        # A replica may first be at a batch of each other front.
        most_batch_s=most_batch_s * num_fronts,
        most_load_s=most_load_s,
        log_folder=None if log_folder is None else Path(log_folder),
        # Replicas are shared: what waits here waits for what waits at the other fronts too.
        limits=AdmissionLimits(
            most_wait_s=limits.most_wait_s / num_fronts,
            most_requests=-(-limits.most_requests // num_fronts),
            most_bytes=-(-limits.most_bytes // num_fronts),
        ),
        most_body_bytes=most_body_bytes,
        most_connections=allow_connections(most_connections),
        prediction_cache_bytes=prediction_cache_bytes // num_fronts,
        totals=Totals(Path(counts_folder), context.rank, num_fronts) if num_fronts > 1 or can_wake else None,
        num_fronts=num_fronts,
        can_wake=can_wake,
    )
    uvloop.run(
        front.serve(Listeners(listener, grpc_listener), socket_paths[context.rank], message.plan, drain_s=drain_s)
    )


def _first_message(context: Context) -> Configure | None:
    while (data := context.receive()) is not None:
        message = read_for_front(data)
        # A plan may have been sent to the front that died, just as this one took its place: it is in Configure too.
        if isinstance(message, Configure):
            return message
    return None


class Listeners(NamedTuple):
    """The sockets for clients; `grpc` is None where gRPC is not served."""

    http: socket.socket
    grpc: socket.socket | None


class Front:
    """Joins the parts: clients' connections, replicas' links, the supervisor's messages. One event loop, one thread."""

    def __init__(
        self,
        context: Context,
        *,
        key: KeyCheck,
        target_ms: float,
        most_batch_s: float,
        most_load_s: float,
        log_folder: Path | None,
        limits: AdmissionLimits,
        most_body_bytes: int,
        most_connections: int,
        prediction_cache_bytes: int = 0,
        totals: Totals | None = None,
        num_fronts: int = 1,
        can_wake: bool = False,
    ) -> None:
        self._context = context
        self._key = key
        self._limits = limits
        self._most_body_bytes = most_body_bytes
        self._most_connections = most_connections
        # Who wakes the server waits as long as a replica may take to come.
        self._most_queued_s = max(_MOST_QUEUED_S, limits.most_wait_s, most_load_s if can_wake else 0.0)
        self._deadlines = Deadlines(load_s=most_load_s, answer_s=max(_ANSWER_S, most_batch_s))
        self._models = Models()
        metrics = self._metrics = Metrics() if totals is None else totals.restore()
        self._journal = Journal(log_folder, metrics, front=totals.rank if totals else 0, num_fronts=num_fronts)
        self._dispatcher = Dispatcher(
            self._models,
            self._journal,
            metrics,
            target_ms=target_ms,
            most_batch_s=most_batch_s,
            prediction_cache_bytes=prediction_cache_bytes,
        )
        parts = (self._models, self._dispatcher, self._journal, metrics)
        self._desk = (
            Desk(*parts, key=key, limits=limits)
            if totals is None
            else SharedDesk(*parts, key=key, limits=limits, totals=totals, can_wake=can_wake)
        )
        # Versions whose loading did not end, and when they are tried again.
        self._endless: dict[Key, float] = {}
        self._has_siblings = num_fronts > 1
        # Of replicas that are gone.
        self._busy_s = 0.0
        self._paths: dict[Key, str] = {}
        self._num_links = 0
        self._told = b""
        self._stopping = asyncio.Event()
        # The loop itself holds tasks only weakly.
        self._syncing: set[asyncio.Future[None]] = set()

    async def serve(self, listeners: Listeners, socket_path: str, plan: Plan, *, drain_s: float) -> None:
        """Serve until the supervisor says stop, and drain for at most `drain_s`."""
        loop = asyncio.get_running_loop()
        self._follow(plan)
        replicas = _listen_to_replicas(socket_path)
        loop.add_reader(replicas, self._on_replica, replicas)
        loop.add_reader(self._context.fileno(), self._on_supervisor)
        chores = [loop.create_task(self._sweep_forever())]
        if self._has_siblings:
            await self._become_ready()
        clients = await loop.create_server(self._connection, sock=listeners.http, backlog=_BACKLOG)
        grpc = None if listeners.grpc is None else await self._start_grpc(listeners.grpc)
        self._report(Listening(listeners.http.getsockname()[1], None if grpc is None else grpc.port))
        chores.append(loop.create_task(self._flush_forever()))
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
        if grpc is not None:
            grpc.close()
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
        self._busy_s += link.busy_s
        self._dispatcher.on_lost(link)
        self._advance()

    def _on_loaded(self, link: ReplicaLink, frame: Loaded) -> None:
        key = Key(frame.model, frame.version)
        if self._endless.pop(key, None) is not None:
            # It ended after all.
            self._desk.problems.pop(f"{key.model}@{key.version}", None)
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

    async def _start_grpc(self, listener: socket.socket) -> "GrpcServer":
        # Here, as it is in the way of the start of those that serve HTTP alone.
        from shoal.serve.grpc import start_grpc

        parts = (self._desk, self._models, self._dispatcher, self._metrics)
        return await start_grpc(
            listener,
            *parts,
            key=self._key,
            limits=self._limits,
            most_body_bytes=self._most_body_bytes,
            most_connections=self._most_connections,
        )

    def _connection(self) -> asyncio.Protocol:
        if len(self._desk.connections) >= self._most_connections:
            return TurnedAway(self._most_connections)
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
        self._endless.clear()
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
            sorted(link.pid for link in links.values() if link.pid > 0),
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
            asked={number: link.asked | link.failed | self._endless.keys() for number, link in links.items()},
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
            if isinstance(self._desk, SharedDesk):
                self._desk.publish()
            if self._dispatcher.num_open and not self._dispatcher.links:
                # They may have to be woken, and each moment counts for those who wait.
                self._report(self._pulse())

    async def _become_ready(self) -> None:
        """Let the other fronts have the connections until this one has replicas."""
        deadline_s = time.monotonic() + _MOST_QUIET_S
        while not (self._desk.is_ready or self._desk.problems or self._stopping.is_set()):
            if time.monotonic() > deadline_s:
                return
            await asyncio.sleep(_DRAIN_LOOK_S)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = time.monotonic()
            for number, connection in enumerate(list(self._desk.connections), start=1):
                connection.check(now_s)
                if number % _CHECKED_AT_ONCE == 0:
                    # Thousands of idle connections should not hold up those that ask.
                    await asyncio.sleep(0)
            self._dispatcher.end_stuck(now_s)
            self._end_silent(now_s)
            self._dispatcher.expire(now_s - self._most_queued_s)
            self._advance()
            self._report(self._pulse())

    def _pulse(self) -> Pulse:
        links = self._dispatcher.links.values()
        return Pulse(
            busy_s=self._busy_s + sum(link.busy_s for link in links),
            wait_s=self._dispatcher.load(0).wait_s,
            num_open=self._dispatcher.num_open,
            num_able=sum(1 for link in links if link.loaded),
        )

    def _end_silent(self, now_s: float) -> None:
        """Ask replicas that say nothing, and replace those that hang, be it in a load."""
        links = self._dispatcher.links
        self._endless = {key: until_s for key, until_s in self._endless.items() if now_s < until_s}
        verdict = judge([link.signs for link in links.values()], now_s, self._deadlines)
        for number in verdict.pings:
            links[number].ping()
        for number, key in verdict.endless:
            planned = self._models.plan.get(key.model)
            if key not in self._endless and planned is not None and key.version in planned.versions:
                self._endless[key] = now_s + _RETRY_FACTOR * self._deadlines.load_s
                self._note_problem(
                    *key,
                    f"replica {links[number].rank} did not load {self._paths.get(key)} within "
                    f"{self._deadlines.load_s:g} s",
                    "look at what its loading waits for; give a longer start_s if it honestly takes long",
                )
        for number in (*verdict.hung, *verdict.replaced):
            link = links[number]
            _LOG.warning("replica %d (pid %d) does not answer or load any more and is killed", link.rank, link.pid)
            link.kill()

    def _note_problem(self, model: str, version: str, message: str, next_step: str) -> None:
        _LOG.warning("%s@%s is not served: %s; next: %s", model, version, message, next_step)
        self._desk.problems[f"{model}@{version}"] = Problem(model, version, message, next_step)

    def _report(self, message: FromFront) -> None:
        self._context.report(encode_message(message))


def _listen_to_replicas(socket_path: str) -> socket.socket:
    Path(socket_path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(socket_path)
    Path(socket_path).chmod(0o600)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def cannot_listen(host: str, port: int, error: OSError) -> CannotListen:
    """What to tell of an address that cannot be had."""
    return CannotListen(
        f"cannot listen on {host}:{port}: {error.strerror or error}",
        "stop what listens there, or choose another port; port=0 takes a free one",
    )
