"""The front: the process that clients talk to. It parses, batches and answers; it never runs a model."""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from shoal.base import ShoalError
from shoal.runtime import Context
from shoal.serve.batching.admission import AdmissionLimits, draining
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.batching.link import ReplicaLink
from shoal.serve.batching.liveness import Deadlines
from shoal.serve.batching.liveness import decide as judge
from shoal.serve.batching.remote_link import RemoteLink
from shoal.serve.desk.connection import Connection, Patience
from shoal.serve.desk.crowd import TurnedAway, allow_connections
from shoal.serve.desk.desk import Desk
from shoal.serve.desk.shared_desk import SharedDesk
from shoal.serve.desk.wishes import Wishes
from shoal.serve.fronts.configuring import wait_for_configuration
from shoal.serve.fronts.entrance import Entrance, EntrancePlace
from shoal.serve.fronts.listening import BACKLOG, Listeners, cannot_listen, open_listener
from shoal.serve.fronts.picture import forget, pulse_of, serving_of, view_of
from shoal.serve.links.channel import Done, Failed, FromReplica, Hello, Key, Loaded, LoadFailed
from shoal.serve.links.messages import (
    EndReplica,
    FromFront,
    Listening,
    Plan,
    Problem,
    Sync,
    Synced,
    WishDone,
    encode_message,
    read_for_front,
)
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import Metrics
from shoal.serve.records.totals import Totals
from shoal.serve.tracing.seeing import NOTHING_SEEN, Seeing
from shoal.serve.versions.models import Models
from shoal.serve.versions.rollout import decide
from shoal.serve.versions.router import Shares
from shoal.serve.wire.auth import KeyCheck

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
# What runs a front, as `Front.serve`, until it ends.
Loop: TypeAlias = Callable[["Front", Coroutine[Any, Any, None]], None]


def run_front(
    context: Context,
    *,
    host: str,
    entrances: list[Any],
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
    seen: Mapping[str, Any] | None = None,
    loop: "Loop | None" = None,
) -> None:
    """The entry of a front's process: serve until told to stop, then answer what is in and end.

    Args:
        context: its rank says which of the `entrances` is its own.
        host: the address to listen on.
        entrances: for each front, where replicas come in, as `Entrance` takes it.
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
        seen: the fields of `Seeing`; None for its defaults.
        loop: of the program that the front is a guest of, and that hears its clients; None for a process of its own.
    """
    is_guest, loop = loop is not None, loop or _own_loop()
    message = wait_for_configuration(context)
    if message is None:
        return
    num_fronts = len(entrances)
    listeners = None
    if not is_guest:
        try:
            port = message.port
            http = open_listener(host, port, is_shared=num_fronts > 1)
            listeners = Listeners(http, None)
            if message.grpc_port is not None:
                port = message.grpc_port
                listeners = Listeners(http, open_listener(host, port, is_shared=num_fronts > 1))
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
        # A host lets in whom it likes.
        most_connections=0 if is_guest else allow_connections(most_connections),
        prediction_cache_bytes=prediction_cache_bytes // num_fronts,
        totals=Totals(Path(counts_folder), context.rank, num_fronts) if num_fronts > 1 or can_wake else None,
        num_fronts=num_fronts,
        can_wake=can_wake,
        seeing=Seeing(**(seen or {})),
    )
    loop(front, front.serve(listeners, entrances[context.rank], message.plan, drain_s=drain_s))


def _own_loop() -> Loop:
    import uvloop

    return lambda _, serving: uvloop.run(serving)


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
        seeing: Seeing = NOTHING_SEEN,
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
        rank = totals.rank if totals else 0
        self._journal = Journal(log_folder, metrics, rule=seeing.rule, front=rank, num_fronts=num_fronts)
        self._observer = seeing.observer(metrics, rank)
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
        self._wishes = self._desk.wishes = Wishes(self._report)
        self._desk.observer, self._journal.is_observed = self._observer, self._observer is not None
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

    @property
    def desk(self) -> Desk:
        """Who answers requests."""
        return self._desk

    async def serve(self, listeners: Listeners | None, place: EntrancePlace, plan: Plan, *, drain_s: float) -> None:
        """Serve until the supervisor says stop or the loop ends, and drain for at most `drain_s`.

        Without `listeners` requests come to the desk by other ways than connections.
        """
        loop = asyncio.get_running_loop()
        self._follow(plan)
        entrance = Entrance(place, self._let_in)
        loop.add_reader(self._context.fileno(), self._on_supervisor)
        chores = [loop.create_task(self._sweep_forever())]
        if self._has_siblings:
            await self._become_ready()
        doors, listening = await self._open_doors(listeners)
        self._report(listening)
        chores.append(loop.create_task(self._flush_forever()))
        if self._observer is not None:
            loop.add_signal_handler(signal.SIGHUP, self._observer.reopen)
        # Cancelled by a loop that ends: replicas and log are let go in order all the same.
        with suppress(asyncio.CancelledError):
            await self._stopping.wait()
        self._desk.is_draining = True
        self._wishes.refuse_all(draining())
        deadline_s = loop.time() + drain_s
        # Not only what waits or runs: a request whose head was let in is answered when its body has come.
        while any(connection.is_busy for connection in self._desk.connections) and loop.time() < deadline_s:
            await asyncio.sleep(_DRAIN_LOOK_S)
        # Listening went on until here, so that new clients heard 503 rather than nothing.
        for chore in chores:
            chore.cancel()
        for door in doors:
            door.close()
        for connection in list(self._desk.connections):
            connection.close()
        # One more turn, so that the last answers and the closes get out.
        await asyncio.sleep(0.05)
        loop.remove_reader(self._context.fileno())
        entrance.close()
        for link in self._dispatcher.links.values():
            link.close()
        self._journal.close()
        if self._observer is not None:
            self._observer.close()

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

    async def _open_doors(self, listeners: Listeners | None) -> "tuple[list[asyncio.Server | GrpcServer], Listening]":
        if listeners is None:
            return [], Listening(0)
        clients = await asyncio.get_running_loop().create_server(self._connection, sock=listeners.http, backlog=BACKLOG)
        port: int = listeners.http.getsockname()[1]
        if listeners.grpc is None:
            return [clients], Listening(port)
        grpc = await self._start_grpc(listeners.grpc)
        return [clients, grpc], Listening(port, grpc.port)

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
            observer=self._observer,
        )

    def _connection(self) -> asyncio.Protocol:
        if len(self._desk.connections) >= self._most_connections:
            return TurnedAway(self._most_connections)
        return Connection(self._desk, most_body_bytes=self._most_body_bytes, patience=Patience())

    def _let_in(self, connection: socket.socket) -> None:
        self._num_links += 1
        self._dispatcher.links[self._num_links] = (
            ReplicaLink(connection, self._num_links, self)
            if connection.family == socket.AF_UNIX
            else RemoteLink(connection, self._num_links, self, lambda *who: self._report(EndReplica(*who)))
        )

    def _on_supervisor(self) -> None:
        while (data := self._context.receive_nowait()) is not None:
            message = read_for_front(data)
            # One that Configure has overtaken is old news.
            if isinstance(message, Plan) and message.generation > self._models.generation:
                self._follow(message)
                self._advance()
            elif isinstance(message, Sync):
                self._syncing.add(asyncio.ensure_future(self._sync(message.number)))
            elif isinstance(message, WishDone):
                self._wishes.on_done(message)
        if self._context.stopping.is_set():
            self._stopping.set()

    async def _sync(self, number: int) -> None:
        # In a thread: the disk may take its time, and requests should not wait for it.
        failure = self._journal.flush() or await asyncio.to_thread(self._journal.sync)
        self._report(Synced(number, failure))
        self._syncing = {task for task in self._syncing if not task.done()}

    def _follow(self, plan: Plan) -> None:
        self._models.plan, self._models.generation = plan.models, plan.generation
        self._models.default = plan.default
        # What failed is tried again for a new plan.
        self._desk.problems.clear()
        self._endless.clear()
        for link in self._dispatcher.links.values():
            link.failed.clear()
        for model, planned in plan.models.items():
            self._paths.update({Key(model, version): path for version, path in planned.versions.items()})

    def _advance(self) -> None:
        """Take the steps towards the plan that are possible now, and tell the supervisor where that is."""
        steps = decide(view_of(self._models, self._dispatcher, self._endless))
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
            forget(self._models, self._dispatcher)
        # The sweep comes here twice a second; the supervisor wants to hear of changes alone. Compared as bytes, because
        # the order of shares counts: the main version stands first.
        told = encode_message(serving_of(self._models, self._dispatcher, self._desk.problems))
        if told != self._told:
            self._told = told
            self._context.report(told)

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._journal.flush()
            if isinstance(self._desk, SharedDesk):
                self._desk.publish()
            if self._dispatcher.num_open and not self._dispatcher.links:
                # They may have to be woken, and each moment counts for those who wait.
                self._report(pulse_of(self._dispatcher, self._busy_s))

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
            self._report(pulse_of(self._dispatcher, self._busy_s))

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
