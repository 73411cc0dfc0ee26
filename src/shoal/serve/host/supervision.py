"""The supervisor's side of a server: the processes, kept alive, and what they were told and have told."""

import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeAlias

from shoal.base import ServeError, SharedBlock, ShoalError, UnavailableError
from shoal.runtime import Backoff, Code, Event, Exited, LocalRuntime, Report, Service, Started
from shoal.serve.fronts.entrance import EntrancePlace
from shoal.serve.fronts.front import run_front
from shoal.serve.fronts.listening import cannot_listen, reserve
from shoal.serve.host.course import Course, Outcome
from shoal.serve.host.keeper import Keeper
from shoal.serve.host.line_pipe import line_pipe_path
from shoal.serve.host.placement import Placement, place_replicas
from shoal.serve.host.settings import ServeSettings
from shoal.serve.links.messages import (
    CannotListen,
    Configure,
    EndReplica,
    Listening,
    ModelPlan,
    Problem,
    Pulse,
    Serving,
    Sync,
    Synced,
    Wish,
    WishDone,
    encode_message,
    read_from_front,
)

_LOG = logging.getLogger(__name__)
# The work of a dead process waits for its successor: come back at once, and slow down only if it dies again and again.
_RESTART = Backoff(initial_s=0.02, factor=3.0, maximum_s=10.0, healthy_after_s=5.0)
# Of each process's stderr, in the error of a start that took too long.
_TAIL_BYTES = 2000
# Runs a front's code in a process that is there already.
TakeIn: TypeAlias = Callable[[Code], Service]


class Supervision:
    """Runs the fronts and some replicas. Any thread may call any method.

    The plan is held here, so that a front that is started again is told all it must know. `on_wish` hears what clients
    wish, with the rank of the front that says so; it must not wait for anything.
    """

    def __init__(
        self, settings: ServeSettings, api_key: str | None, folder: Path, take_in: TakeIn | None = None
    ) -> None:
        """Prepare; `start` starts the processes, whose socket lies in `folder`; `take_in` runs the front elsewhere."""
        self._take_in = take_in
        self.port = settings.port
        self.grpc_port = settings.grpc_port
        self._settings = settings
        self._api_key = api_key
        self._folder = folder
        self._log_folder = folder / "logs"
        self._course = Course()
        self._changed = threading.Condition()
        # Held from making a plan until it is sent, so that plans arrive in the order of their generations. Taken around
        # `_changed`, never inside: a front that does not read must not hold up those who listen to it.
        self._sending = threading.Lock()
        self._keeper = Keeper(settings)
        # Keep the ports for fronts that share them, however many of them are away.
        self._reservations: list[socket.socket] = []
        self._failure: ShoalError | None = None
        # Number of the sync -> rank -> what that front answered.
        self._synced: dict[int, dict[int, str | None]] = {}
        self._num_syncs = 0
        self._is_stopping = False
        self.on_wish: Callable[[int, Wish], None] | None = None
        self._front: Service | None = None
        self._replicas: Service | None = None
        self._placement: Placement | None = None
        self._threads: list[threading.Thread] = []

    @property
    def pids(self) -> tuple[list[int | None], list[int]]:
        """(the fronts' in the order of their ranks, the replicas'); None for a front that is away."""
        fronts, replicas = self._services()
        found = fronts.pids()
        return [found.get(rank) for rank in range(self._settings.fronts)], list(replicas.pids().values())

    @property
    def restarts(self) -> dict[str, int]:
        """How often processes came back."""
        fronts, replicas = self._services()
        return {"front": fronts.restarts, "replicas": replicas.restarts}

    @property
    def num_replicas(self) -> int:
        """How many replicas there should be now."""
        return self._keeper.num_replicas

    def start(self, plans: Mapping[str, ModelPlan]) -> None:
        """Start the processes, and return when all these models are served.

        Raises:
            ServeError: the port is taken, a model cannot be loaded, or that took too long.
        """
        # A single front finds out for itself, and is there sooner.
        if self._settings.fronts > 1:
            self.port = self._reserve(self._settings.port)
            if self._settings.grpc_port is not None:
                self.grpc_port = self._reserve(self._settings.grpc_port)
        self._course.put(plans)
        self._start_processes()
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_started() or self._course.problems or self._failure is not None,
                self._settings.start_s,
            )
            reached, problems, failure = self._is_started(), self._course.problems, self._failure
        if failure is not None:
            raise failure
        if problems:
            raise as_error(problems[0])
        if not reached:
            raise _not_loaded(plans, self._settings.start_s, self._log_folder)

    def plan_of(self, name: str) -> ModelPlan | None:
        """What is planned for a model."""
        return self._course.plan.models.get(name)

    def send_plan(self, name: str, planned: ModelPlan) -> int:
        """Plan a model anew, and tell the fronts; returns the plan's generation at once.

        Raises:
            ConfigError: a version that was served before would change its path.
        """
        with self._sending:
            with self._changed:
                plan = self._course.put({name: planned})
            self._send(range(self._settings.fronts), encode_message(plan))
        # A new version is loaded by somebody.
        self._keeper.wake()
        return plan.generation

    def drop_plan(self, name: str, *, keeps_place: bool = False) -> int:
        """Serve a model no more; returns the plan's generation at once. See `Course.drop` for `keeps_place`."""
        with self._sending:
            with self._changed:
                plan = self._course.drop(name, keeps_place=keeps_place)
                self._changed.notify_all()
            self._send(range(self._settings.fronts), encode_message(plan))
        return plan.generation

    def wait_for_plan(self, name: str, generation: int, *, is_wanted: bool, timeout_s: float) -> Outcome | None:
        """What has become of a generation's plan for one model, see `Course.outcome`; None when it took too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._course.outcome(name, generation, is_wanted=is_wanted), timeout_s
            )

    def answer_wish(self, rank: int, done: WishDone) -> None:
        """Tell a front what became of a wish; one that has died since has nobody to tell."""
        self._send([rank], encode_message(done))

    def problems(self) -> list[Problem]:
        """What is not served as planned, and why."""
        with self._changed:
            return self._course.problems

    def settle(self) -> None:
        """Return when each planned model is served or cannot be loaded, or when loading has taken too long."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._course.is_reached
                    or {problem.model for problem in self._course.problems} >= self._course.missing
                ),
                self._settings.start_s,
            )

    def wait_until(
        self,
        is_there: Callable[[Mapping[str, Mapping[str, float]]], bool],
        concerns: Callable[[Problem], bool],
        timeout_s: float,
    ) -> bool:
        """Whether every front that is there came to route as wanted in time.

        Raises:
            ServeError: a planned version that concerns the caller cannot be loaded.
        """

        def problems() -> list[Problem]:
            return [problem for problem in self._course.problems if concerns(problem)]

        def is_reached() -> bool:
            # A front that is away routes nothing, and will begin with the newest plan.
            told = self._course.serving.values()
            return bool(told) and all(is_there(serving.shares) for serving in told)

        with self._changed:
            self._changed.wait_for(lambda: is_reached() or problems(), timeout_s)
            if is_reached():
                return True
            found = problems()
        if found:
            raise as_error(found[0])
        return False

    def shares(self) -> Mapping[str, Mapping[str, float]]:
        """What the first front routes to: model -> version -> share; empty while there is no front."""
        serving = self._course.serving
        return serving[min(serving)].shares if serving else {}

    def sync(self, timeout_s: float) -> None:
        """Let the fronts make their logs readable; raises what `Server.sync_log` promises."""
        with self._changed:
            self._num_syncs += 1
            number = self._num_syncs
            # One that is away has no rows that could be made readable.
            asked = set(self._course.serving) or {0}
            answers = self._synced[number] = {}
        self._send(asked, encode_message(Sync(number)))
        with self._changed:
            is_done = self._changed.wait_for(lambda: asked <= answers.keys(), timeout_s)
            del self._synced[number]
            if not is_done:
                raise UnavailableError(
                    f"the front did not sync its log within {timeout_s:g} s", next_step="try again in a moment"
                )
        if failures := [failure for failure in answers.values() if failure is not None]:
            raise ServeError(f"the prediction log cannot be written: {failures[0]}", next_step="make room on the disk")

    def stop(self) -> None:
        """Let the fronts drain, and end all processes. Idempotent."""
        self._is_stopping = True
        self._keeper.stop()
        # The fronts first: they drain, and need their replicas for that.
        if self._front is not None:
            self._front.stop(grace_s=self._settings.drain_s + 5.0)
        if self._replicas is not None:
            self._replicas.stop()
        for thread in self._threads:
            thread.join()
        if self._placement is not None:
            self._placement.close()
        for reservation in self._reservations:
            reservation.close()

    def _send(self, ranks: Iterable[int], message: bytes) -> None:
        fronts = self._services()[0]
        for rank in ranks:
            fronts.send(rank, message)

    def _services(self) -> tuple[Service, Service]:
        assert self._front is not None
        assert self._replicas is not None
        return self._front, self._replicas

    def _start_processes(self) -> None:
        runtime = LocalRuntime(log_folder=self._log_folder)
        placement = place_replicas(self._settings, self._folder, runtime, partial(_is_planned, self._course))
        self._placement = placement
        take_in = self._take_in or partial(
            runtime.service, replicas=self._settings.fronts, restart=_RESTART, name="front"
        )
        self._front = take_in(_front_code(self._settings, self._folder, placement.entrances))
        self._replicas = placement.runtime.service(
            placement.code, self._keeper.num_replicas, restart=_RESTART, name="replica", waits=False
        )
        self._run_thread(partial(_listen, self._front, self._on_front))
        self._run_thread(partial(_listen, self._replicas, self._on_replica))
        self._run_thread(partial(self._keeper.run, self._front, self._replicas))

    def _run_thread(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name="serve supervision", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _on_front(self, event: Event) -> None:
        rank = event.member.rank
        if isinstance(event, Started):
            with self._sending:
                with self._changed:
                    message = Configure(self.port, self._api_key, self._course.plan, self.grpc_port)
                self._send([rank], encode_message(message))
            self._keeper.start_front(rank)
        elif isinstance(event, Report):
            self._on_report(rank, event.message)
        elif isinstance(event, Exited):
            self._keeper.end_front(rank)
            with self._changed:
                self._course.lose(rank)
                for answers in self._synced.values():
                    # What it had not written is lost; nobody should wait for it.
                    answers.setdefault(rank, None)
                self._fail_start(event)
                self._changed.notify_all()
            _clean_up("front", event, is_expected=self._is_stopping)

    def _on_replica(self, event: Event) -> None:
        if isinstance(event, Started):
            self._keeper.start_replica(event.member.rank, event.pid)
        elif isinstance(event, Exited):
            self._keeper.end_replica(event.member.rank, event.pid)
            with self._changed:
                self._fail_start(event)
                self._changed.notify_all()
            is_here = self._placement is None or self._placement.is_here
            _clean_up("replica", event, is_expected=self._is_stopping, is_here=is_here)

    def _on_report(self, rank: int, data: bytes) -> None:
        message = read_from_front(data)
        self._keeper.hear(rank, message)
        if isinstance(message, Wish):
            if self.on_wish is not None:
                self.on_wish(rank, message)
            return
        if isinstance(message, Pulse | EndReplica):
            return
        with self._changed:
            if isinstance(message, Listening):
                self.port = message.port
                self.grpc_port = message.grpc_port
                self._course.listening.add(rank)
            elif isinstance(message, Serving):
                self._course.hear(rank, message)
            elif isinstance(message, Synced):
                # Nobody waits any more for one that came too late.
                self._synced.get(message.number, {})[rank] = message.failure
            elif isinstance(message, CannotListen):
                _LOG.error("%s", message.message)
                self._failure = ServeError(message.message, next_step=message.next_step)
            self._changed.notify_all()

    def _fail_start(self, exited: Exited) -> None:
        """Remember why an entry raised, for `start`; a process that was killed is started again and no failure."""
        if exited.failure is not None and exited.signal is None and self._failure is None:
            self._failure = exited.failure

    def _is_started(self) -> bool:
        return self._course.is_started(range(self._settings.fronts))

    def _reserve(self, port: int) -> int:
        """Take a port for all fronts, and return it."""
        self._reservations.append(_reserve(self._settings.host, port))
        found: int = self._reservations[-1].getsockname()[1]
        return found


def _listen(service: Service, on_event: Callable[[Event], None]) -> None:
    while not service.is_over:
        for event in service.events():
            on_event(event)


def _front_code(settings: ServeSettings, folder: Path, entrances: Sequence[EntrancePlace]) -> Code:
    """What a front runs."""
    return Code.of(
        run_front,
        config={
            "host": settings.host,
            "entrances": entrances,
            "counts_folder": str(folder),
            "target_ms": settings.target_ms,
            "log_folder": None if settings.log_folder is None else str(settings.log_folder.absolute()),
            "most_wait_s": settings.most_wait_s,
            "most_batch_s": settings.most_batch_s,
            "most_load_s": settings.start_s,
            "most_body_bytes": settings.most_body_bytes,
            "prediction_cache_bytes": settings.prediction_cache_bytes,
            "most_connections": settings.most_connections,
            "drain_s": settings.drain_s,
            "can_wake": settings.least_replicas == 0,
            "seen": asdict(settings.seeing(line_pipe_path(folder))),
        },
    )


def _is_planned(course: Course, source: str) -> bool:
    return any(source in planned.versions.values() for planned in course.plan.models.values())


def _reserve(host: str, port: int) -> socket.socket:
    try:
        return reserve(host, port)
    except OSError as error:
        told = cannot_listen(host, port, error)
        raise ServeError(told.message, next_step=told.next_step) from error


def _clean_up(role: str, event: Exited, *, is_expected: bool, is_here: bool = True) -> None:
    if is_here:
        # Killed in the moment between making a block and the other side's attaching it, it left the name behind.
        SharedBlock.unlink_all_of(event.pid)
    # A replica ends by itself only when it is told to.
    if not is_expected and event.exit_code != 0:
        how = f"signal {event.signal}" if event.signal is not None else f"exit code {event.exit_code}"
        _LOG.warning("%s %d (pid %d) ended with %s and is started again", role, event.member.rank, event.pid, how)
        if event.failure is not None and not is_here:
            # There is no file of its last words on this machine.
            _LOG.warning("%s", event.failure)


def _not_loaded(names: Iterable[str], start_s: float, log_folder: Path) -> ServeError:
    return ServeError(
        f"{', '.join(names)} was not loaded within {start_s:g} s{_last_words(log_folder)}",
        next_step="give a longer start_s, or mend what the processes tell of",
        status=503,
    )


def _last_words(log_folder: Path) -> str:
    """What each process wrote to stderr last; their files go with the server that did not start."""
    words = ""
    for path in sorted(log_folder.glob("*.log")):
        text = path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        if text:
            words += f"\n{path.stem} wrote last:\n{text}"
    return words


def as_error(problem: Problem) -> ServeError:
    """The error for a version that is not served as planned."""
    return ServeError(
        f"cannot serve {problem.model}@{problem.version}: {problem.message}", next_step=problem.next_step, status=503
    )
