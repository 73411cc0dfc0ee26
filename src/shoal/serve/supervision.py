"""The supervisor's side of a server: the processes, kept alive, and what they were told and have told."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from shoal.base import ConfigError, ServeError, SharedBlock, ShoalError, UnavailableError
from shoal.runtime import Backoff, Code, Event, Exited, LocalRuntime, Report, Service, Started
from shoal.serve.front import run_front
from shoal.serve.messages import (
    CannotListen,
    Configure,
    Listening,
    ModelPlan,
    Plan,
    Problem,
    Serving,
    Sync,
    Synced,
    encode_message,
    read_from_front,
)
from shoal.serve.replica import run_replica
from shoal.serve.settings import ServeSettings

_LOG = logging.getLogger(__name__)
# The work of a dead process waits for its successor: come back at once, and slow down only if it dies again and again.
_RESTART = Backoff(initial_s=0.02, factor=3.0, maximum_s=10.0, healthy_after_s=5.0)
# Of each process's stderr, in the error of a start that took too long.
_TAIL_BYTES = 2000


class Supervision:
    """Runs one front and some replicas. Any thread may call any method.

    The plan is held here, so that a front that is started again is told all it must know.
    """

    def __init__(self, settings: ServeSettings, api_key: str | None, folder: Path) -> None:
        """Prepare; `start` starts the processes, whose socket lies in `folder`."""
        self.port = settings.port
        self._settings = settings
        self._api_key = api_key
        self._folder = folder
        self._log_folder = folder / "logs"
        self._plan = Plan(0, {})
        # Of every version ever planned: a number must not come to mean other content while the server runs.
        self._paths: dict[str, str] = {}
        self._changed = threading.Condition()
        # Held from making a plan until it is sent, so that plans arrive in the order of their generations. Taken around
        # `_changed`, never inside: a front that does not read must not hold up those who listen to it.
        self._sending = threading.Lock()
        self._serving: Serving | None = None
        self._failure: ShoalError | None = None
        self._synced: dict[int, str | None] = {}
        self._num_syncs = 0
        self._is_stopping = False
        self._front: Service | None = None
        self._replicas: Service | None = None
        self._threads: list[threading.Thread] = []

    @property
    def pids(self) -> tuple[int | None, list[int]]:
        """(the front's, the replicas')."""
        front, replicas = self._services()
        return front.pids().get(0), list(replicas.pids().values())

    @property
    def restarts(self) -> dict[str, int]:
        """How often processes came back."""
        front, replicas = self._services()
        return {"front": front.restarts, "replicas": replicas.restarts}

    def start(self, name: str, planned: ModelPlan) -> None:
        """Start the processes, and return when the model is served.

        Raises:
            ServeError: the port is taken, the model cannot be loaded, or that took too long.
        """
        self._plan = Plan(1, {name: planned})
        self._paths.update({f"{name}@{version}": path for version, path in planned.versions.items()})
        self._start_processes()
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_reached() or self._problems() or self._failure is not None, self._settings.start_s
            )
            reached, problems, failure = self._is_reached(), self._problems(), self._failure
        if failure is not None:
            raise failure
        if problems:
            raise as_error(problems[0])
        if not reached:
            raise ServeError(
                f"{name} was not loaded within {self._settings.start_s:g} s{self._last_words()}",
                next_step="give a longer start_s, or mend what the processes tell of",
                status=503,
            )

    def plan_of(self, name: str) -> ModelPlan | None:
        """What is planned for a model."""
        return self._plan.models.get(name)

    def send_plan(self, name: str, planned: ModelPlan) -> None:
        """Plan a model anew, and tell the front; returns at once.

        Raises:
            ConfigError: a version that was served before would change its path.
        """
        with self._sending:
            with self._changed:
                for version, path in planned.versions.items():
                    known = self._paths.setdefault(f"{name}@{version}", path)
                    if known != path:
                        raise ConfigError(
                            f"version {version} of {name} was served from {known}, found {path}",
                            next_step="give changed content a new version",
                        )
                self._plan = Plan(self._plan.generation + 1, {**self._plan.models, name: planned})
                message = encode_message(self._plan)
            self._services()[0].send(0, message)

    def wait_until(
        self,
        is_there: Callable[[Mapping[str, Mapping[str, float]]], bool],
        concerns: Callable[[Problem], bool],
        timeout_s: float,
    ) -> bool:
        """Whether the front came to route as wanted in time.

        Raises:
            ServeError: a planned version that concerns the caller cannot be loaded.
        """

        def problems() -> list[Problem]:
            return [problem for problem in self._problems() if concerns(problem)]

        with self._changed:
            self._changed.wait_for(lambda: is_there(self.shares()) or problems(), timeout_s)
            if is_there(self.shares()):
                return True
            found = problems()
        if found:
            raise as_error(found[0])
        return False

    def shares(self) -> Mapping[str, Mapping[str, float]]:
        """What the front routes to: model -> version -> share; empty while there is no front."""
        return self._serving.shares if self._serving is not None else {}

    def sync(self, timeout_s: float) -> None:
        """Let the front make its logs readable; raises what `Server.sync_log` promises."""
        with self._changed:
            self._num_syncs += 1
            number = self._num_syncs
        self._services()[0].send(0, encode_message(Sync(number)))
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._synced, timeout_s):
                raise UnavailableError(
                    f"the front did not sync its log within {timeout_s:g} s", next_step="try again in a moment"
                )
            failure = self._synced.pop(number)
        if failure is not None:
            raise ServeError(f"the prediction log cannot be written: {failure}", next_step="make room on the disk")

    def stop(self) -> None:
        """Let the front drain, and end all processes. Idempotent."""
        self._is_stopping = True
        # The front first: it drains, and needs its replicas for that.
        if self._front is not None:
            self._front.stop(grace_s=self._settings.drain_s + 5.0)
        if self._replicas is not None:
            self._replicas.stop()
        for thread in self._threads:
            thread.join()

    def _services(self) -> tuple[Service, Service]:
        assert self._front is not None
        assert self._replicas is not None
        return self._front, self._replicas

    def _start_processes(self) -> None:
        runtime = LocalRuntime(log_folder=self._log_folder)
        socket_path = str(self._folder / "replicas.sock")
        settings = self._settings
        front = Code.of(
            run_front,
            config={
                "host": settings.host,
                "socket_path": socket_path,
                "target_ms": settings.target_ms,
                "log_folder": None if settings.log_folder is None else str(settings.log_folder.absolute()),
                "most_wait_s": settings.most_wait_s,
                "most_batch_s": settings.most_batch_s,
                "most_body_bytes": settings.most_body_bytes,
                "drain_s": settings.drain_s,
            },
        )
        replica = Code.of(run_replica, config={"socket_path": socket_path, "threads": 1})
        self._front = runtime.service(front, 1, restart=_RESTART, name="front")
        self._replicas = runtime.service(replica, settings.replicas, restart=_RESTART, name="replica")
        self._listen_to(self._front, self._on_front)
        self._listen_to(self._replicas, self._on_replica)

    def _listen_to(self, service: Service, on_event: Callable[[Event], None]) -> None:
        def listen() -> None:
            while not service.is_over:
                for event in service.events():
                    on_event(event)

        thread = threading.Thread(target=listen, name="serve supervision", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _on_front(self, event: Event) -> None:
        if isinstance(event, Started):
            with self._sending:
                with self._changed:
                    message = Configure(self.port, self._api_key, self._plan)
                self._services()[0].send(0, encode_message(message))
        elif isinstance(event, Report):
            self._on_report(event.message)
        elif isinstance(event, Exited):
            with self._changed:
                # Nothing is routed until the next front says so.
                self._serving = None
                self._fail_start(event)
                self._changed.notify_all()
            self._clean_up("front", event)

    def _on_replica(self, event: Event) -> None:
        if isinstance(event, Exited):
            with self._changed:
                self._fail_start(event)
                self._changed.notify_all()
            self._clean_up("replica", event)

    def _on_report(self, data: bytes) -> None:
        message = read_from_front(data)
        with self._changed:
            if isinstance(message, Listening):
                self.port = message.port
            elif isinstance(message, Serving):
                self._serving = message
            elif isinstance(message, Synced):
                self._synced[message.number] = message.failure
            elif isinstance(message, CannotListen):
                _LOG.error("%s", message.message)
                self._failure = ServeError(message.message, next_step=message.next_step)
            self._changed.notify_all()

    def _fail_start(self, exited: Exited) -> None:
        """Remember why an entry raised, for `start`; a process that was killed is started again and no failure."""
        if exited.failure is not None and exited.signal is None and self._failure is None:
            self._failure = exited.failure

    def _clean_up(self, role: str, event: Exited) -> None:
        # Killed in the moment between making a block and the other side's attaching it, it left the name behind.
        SharedBlock.unlink_all_of(event.pid)
        if not self._is_stopping:
            how = f"signal {event.signal}" if event.signal is not None else f"exit code {event.exit_code}"
            _LOG.warning("%s %d (pid %d) ended with %s and is started again", role, event.member.rank, event.pid, how)

    def _is_reached(self) -> bool:
        if self._serving is None or self._serving.generation != self._plan.generation:
            return False
        return all(
            list(self._serving.shares.get(name, {}).items()) == list(planned.shares.items())
            for name, planned in self._plan.models.items()
        )

    def _last_words(self) -> str:
        """What each process wrote to stderr last; their files go with the server that did not start."""
        words = ""
        for path in sorted(self._log_folder.glob("*.log")):
            text = path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
            if text:
                words += f"\n{path.stem} wrote last:\n{text}"
        return words

    def _problems(self) -> list[Problem]:
        if self._serving is None or self._serving.generation != self._plan.generation:
            return []
        return self._serving.problems


def as_error(problem: Problem) -> ServeError:
    """The error for a version that is not served as planned."""
    return ServeError(
        f"cannot serve {problem.model}@{problem.version}: {problem.message}", next_step=problem.next_step, status=503
    )
