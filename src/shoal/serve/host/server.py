"""A running server, as the program that started it sees it."""

import importlib.util
import json
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shoal.base import ConfigError, Secret, UnavailableError, UnsupportedError
from shoal.serve.host.following import Follower
from shoal.serve.host.line_pipe import LinePipe, line_pipe_path
from shoal.serve.host.observing import STDERR, find_access_log, find_traces
from shoal.serve.host.repository import Repository
from shoal.serve.host.settings import ServeSettings
from shoal.serve.host.supervision import Supervision, TakeIn
from shoal.serve.host.target import Target, find_target, source_of
from shoal.serve.host.watching import Watcher
from shoal.serve.links.messages import ModelPlan
from shoal.serve.versions.router import Shares
from shoal.store import Store

_EVERY_NETWORK = ("", "0.0.0.0", "::")  # noqa: S104  # compared with, not bound
_NEEDED = ("httptools", "onnxruntime", "prometheus_client", "uvloop")


class Server:
    """Fronts and their replicas. Any thread may call any method; leaving its block stops it.

    The processes die with this one. A front or replica that dies is started again and finds its work: replicas lose no
    request; a front loses the connections that it had.
    """

    def __init__(
        self,
        target: Target,
        settings: ServeSettings,
        *,
        api_key: str | Secret | None = None,
        follow: bool = True,
        take_in: TakeIn | None = None,
    ) -> None:
        """Start the processes, and return when the model can be asked; `start` is the usual way here."""
        self._settings = settings
        self._api_key = api_key.reveal() if isinstance(api_key, Secret) else api_key
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="shoal-")
        pipe = line_pipe_path(Path(self._folder.name))
        self._line_pipe = LinePipe(pipe) if settings.access_log == STDERR else None
        self._supervision = Supervision(settings, self._api_key, Path(self._folder.name), take_in)
        follower: Follower | None = None
        watcher: Watcher | None = None
        if target.folder is not None:
            watcher = Watcher(target.folder, self._supervision)
        if follow and target.store is not None and target.alias is not None:
            # The number was read before the plan: what happened in between is looked at once more, never missed.
            follower = Follower(target.store, target.name, target.alias, self._supervision, since=target.last_change)
        self._follower: Follower | Watcher | None = watcher or follower
        repository = Repository(
            self._supervision, target, watcher=watcher, follower=follower, timeout_s=settings.start_s
        )
        self._supervision.on_wish = repository.take
        try:
            self._supervision.start(target.plans)
            if self._follower is not None:
                self._follower.start()
            if target.folder is not None:
                self._supervision.settle()
        except BaseException:
            self.stop()
            raise

    @property
    def port(self) -> int:
        """The port that the fronts listen on."""
        return self._supervision.port

    @property
    def grpc_port(self) -> int | None:
        """The port that the fronts listen on for gRPC; None where it is not served."""
        return self._supervision.grpc_port

    @property
    def url(self) -> str:
        """Where clients find it."""
        host = self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def name(self) -> str:
        """The name of the model that it was started with."""
        return self._target.name

    @property
    def log_folder(self) -> Path | None:
        """Where predictions are logged, a folder per model."""
        return self._settings.log_folder

    def pids(self) -> dict[str, Any]:
        """Process ids as {"front": pid, "fronts": [pid, ...], "replicas": [pid, ...]}; `front` is the first front.

        One that is just being restarted is None or, among the replicas, absent.
        """
        fronts, replicas = self._supervision.pids
        return {"front": fronts[0], "fronts": fronts, "replicas": replicas}

    def status(self) -> dict[str, Any]:
        """What the fronts tell about themselves, how often processes were restarted, and where their stderr is kept.

        Raises:
            UnavailableError: the front does not answer, as while it is being restarted.
        """
        headers = {} if self._api_key is None else {"X-API-Key": self._api_key}
        connection = HTTPConnection(self._host, self.port, timeout=5)
        try:
            connection.request("GET", "/status", headers=headers)
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, HTTPException) as error:
            raise UnavailableError(
                f"the front at {self.url} does not answer: {error}", next_step="ask again in a moment"
            ) from error
        finally:
            connection.close()
        logs = str(Path(self._folder.name) / "logs")
        settings = self._settings
        scaling = {
            "least": settings.least_replicas,
            "most": settings.most_replicas,
            "wanted": self._supervision.num_replicas,
        }
        return {**found, "restarts": self._supervision.restarts, "scaling": scaling, "process_logs": logs}

    def swap(self, name: str, versions: Mapping[str, object], shares: Mapping[str, float] | None = None) -> None:
        """Serve other versions of a model, or one more model; returns at once, `wait_for` waits.

        No request fails: new versions are loaded first, then traffic moves, then old ones go.

        Args:
            name: the model.
            versions: version -> what `start` takes for one model. A version that is served already keeps its path.
            shares: version -> part of the traffic, the main version first; may be left out for a single version.

        Raises:
            ConfigError: the shares do not sum to 1 or name other versions, a version changes its path, or the model
                follows the registry.
        """
        paths = {version: source_of(model) for version, model in versions.items()}
        divided = dict(shares) if shares is not None else dict.fromkeys(paths, 1.0)
        Shares.of(divided)
        if unknown := divided.keys() - paths.keys():
            raise ConfigError(
                f"shares name the versions {sorted(unknown)}, which are not among {sorted(paths)}",
                next_step="give the path of every version that gets traffic",
            )
        follower = self._follower
        if follower is not None and (follower.follows(name) if isinstance(follower, Follower) else name == self.name):
            raise ConfigError(
                f"{name} follows the registry and cannot be swapped by hand",
                next_step=f"promote or canary it there, or start the server with follow=False to swap {name} here",
            )
        self._supervision.send_plan(name, ModelPlan(paths, divided))

    def wait_for(
        self, name: str, version: int | str | None = None, canary: int | str | None = None, timeout_s: float = 30.0
    ) -> None:
        """Return when traffic goes to this version and to exactly this canary.

        Args:
            name: the model.
            version: the main version; None for any.
            canary: the canary; None for no canary.
            timeout_s: how long to wait.

        Raises:
            ServeError: the version or canary cannot be loaded; what was served before still is.
            UnavailableError: it did not come to that in time.
        """
        wanted = (None if version is None else str(version), None if canary is None else str(canary))

        def is_there(shares: Mapping[str, Mapping[str, float]]) -> bool:
            main, other, *_ = [*shares.get(name, {}).keys(), "", ""]
            return main != "" and wanted[0] in (None, main) and (wanted[1] or "") == other

        if self._follower is not None:
            self._follower.look_now()
        if not self._supervision.wait_until(
            is_there, lambda problem: problem.model == name and problem.version in wanted, timeout_s
        ):
            raise UnavailableError(
                f"{name} is not served as version {wanted[0] or 'any'} with canary {wanted[1]} after {timeout_s:g} s; "
                f"found the shares {dict(self._supervision.shares().get(name, {}))}",
                next_step="look at status() for what is being waited for",
            )

    def sync_log(self, timeout_s: float = 10.0) -> None:
        """Return when every prediction answered so far can be read from the log.

        Raises:
            ServeError: the log cannot be written.
            UnavailableError: the front does not answer in time.
        """
        self._supervision.sync(timeout_s)

    def stop(self) -> None:
        """Answer what is in, refuse what is new, seal the log, end all processes. Idempotent."""
        if self._follower is not None:
            self._follower.stop()
        self._supervision.stop()
        if self._line_pipe is not None:
            self._line_pipe.close()
        self._folder.cleanup()
        if self._target.owns_store and self._target.store is not None:
            self._target.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _host(self) -> str:
        return "127.0.0.1" if self._settings.host in _EVERY_NETWORK else self._settings.host


def check_installed() -> None:
    """Raise UnsupportedError where the packages for serving are not there."""
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise UnsupportedError(
            f"cannot serve: {', '.join(missing)} not installed", next_step="pip install 'shoal[serve]'"
        )


def start(
    model: object,
    *,
    replicas: int | tuple[int, int] = 2,
    fronts: int = 1,
    target_ms: float = 10.0,
    host: str = "127.0.0.1",
    port: int = 8080,
    grpc_port: int | None = None,
    api_key: str | Secret | None = None,
    log_folder: str | Path | None = None,
    store: Store | None = None,
    follow: bool = True,
    start_s: float = 60.0,
    most_wait_s: float = 1.0,
    most_batch_s: float = 10.0,
    prediction_cache_bytes: int = 0,
    sleep_after_s: float = 60.0,
    most_connections: int | None = None,
    runtime: str = "local",
    log_sample: float = 1.0,
    log_drop: Sequence[str] = (),
    access_log: str | Path | None = None,
    traces: str | None = None,
    trace_sample: float = 1.0,
) -> Server:
    """Return a server that answers already; stop it with `stop()` or by leaving its `with` block.

    Args:
        model: an ONNX file, a package or its folder, a registered version, or an address in the registry such as
            "fashion@production"; a class or an object with `predict(batch)`, "file.py:Class", or a `Chain`; several of
            these as {name: model}; or a folder of models, which are loaded and let go as files come and go.
        replicas: processes that run the model; (least, most) lets their number follow the load, and a least of 0 lets
            the server sleep when nobody asks: a request that comes then waits for the first replica.
        fronts: processes that talk to clients and share the port; one is enough until it takes a whole core.
        target_ms: what a request should take when the server keeps up; larger means larger batches.
        host: the address to listen on; "0.0.0.0" for every network that reaches this machine.
        port: 0 takes a free one.
        grpc_port: for gRPC beside HTTP, as Triton's clients speak it; 0 takes a free one, None serves none.
        api_key: what requests must carry, all but those for health; None for no key.
        log_folder: where predictions are logged; None for `predictions` in the store's home, or no log without a store.
        store: the registry; None opens the nearest one when an address is given.
        follow: serve what an alias means at any time, canary included; False keeps what it means now.
        start_s: how long loading may take before this gives up; a replica that takes longer to come up or to load a
            version is replaced.
        most_wait_s: a request that is predicted to wait longer is refused with 503 and a time to come back.
        most_batch_s: a replica that has been at one batch for longer, and for ten times what was predicted, is killed,
            and another one runs the batch.
        prediction_cache_bytes: answers are kept in so many bytes, for inputs that come again; 0 for no cache.
        sleep_after_s: with replicas=(0, most), how long nobody must ask before the last replica goes.
        most_connections: a front that has so many answers further ones with 503 and closes them; None for as many as
            the system's limit on open files allows.
        runtime: where replicas run: "local" for this machine, "ray" or "ray://host:10001" for the nodes of a cluster.
            Fronts always run here.
        log_sample: the share of requests that are logged, chosen by the hash of a request's id.
        log_drop: inputs and outputs that are never logged: names, or patterns such as "pixels*".
        access_log: a file that gets a line of JSON for each answered request; "-" for this program's stderr.
        traces: a collector's address, such as "http://127.0.0.1:4318", that spans of requests are sent to over
            OTLP/HTTP; None for what OTEL_EXPORTER_OTLP_ENDPOINT says, or no traces.
        trace_sample: the share of predictions that begin a trace where the caller brings none; else its flag decides.

    Raises:
        NotFoundError: no such file, model, version or alias.
        CorruptError: a file of the package was changed.
        ServeError: the port is taken, the model cannot be loaded in time, or the log folder or the access log cannot be
            used.
        UnsupportedError: the packages for serving are not installed, or those for traces.
    """
    check_installed()
    target = find_target(model, store)
    if log_folder is None and target.store is not None:
        log_folder = target.store.home / "predictions"
    settings = ServeSettings(
        replicas=replicas,
        fronts=fronts,
        target_ms=target_ms,
        host=host,
        port=port,
        grpc_port=grpc_port,
        log_folder=None if log_folder is None else Path(log_folder).absolute(),
        start_s=start_s,
        most_wait_s=most_wait_s,
        most_batch_s=most_batch_s,
        prediction_cache_bytes=prediction_cache_bytes,
        sleep_after_s=sleep_after_s,
        most_connections=most_connections,
        runtime=runtime,
        log_sample=log_sample,
        log_drop=tuple(log_drop),
        access_log=find_access_log(access_log),
        traces=find_traces(traces),
        trace_sample=trace_sample,
    )
    return Server(target, settings, api_key=api_key, follow=follow)


def run(
    model: object,
    *,
    replicas: int | tuple[int, int] = 2,
    fronts: int = 1,
    target_ms: float = 10.0,
    host: str = "127.0.0.1",
    port: int = 8080,
    grpc_port: int | None = None,
    api_key: str | Secret | None = None,
    log_folder: str | Path | None = None,
    store: Store | None = None,
    follow: bool = True,
    start_s: float = 60.0,
    most_wait_s: float = 1.0,
    most_batch_s: float = 10.0,
    prediction_cache_bytes: int = 0,
    sleep_after_s: float = 60.0,
    most_connections: int | None = None,
    runtime: str = "local",
    log_sample: float = 1.0,
    log_drop: Sequence[str] = (),
    access_log: str | Path | None = None,
    traces: str | None = None,
    trace_sample: float = 1.0,
    on_start: Callable[[Server], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain: answer what is in, refuse what is new, seal the log.

    Call it from the main thread. Arguments and errors are those of `start`; `on_start` is called once with the server
    when it answers. With an access log, SIGHUP does not end it: the fronts open the file anew when it was moved.
    """
    # Handlers before the processes: a signal that comes while they start must still stop them.
    stopping = threading.Event()
    former = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    if access_log is not None:
        former[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        with start(
            model,
            replicas=replicas,
            fronts=fronts,
            target_ms=target_ms,
            host=host,
            port=port,
            grpc_port=grpc_port,
            api_key=api_key,
            log_folder=log_folder,
            store=store,
            follow=follow,
            start_s=start_s,
            most_wait_s=most_wait_s,
            most_batch_s=most_batch_s,
            prediction_cache_bytes=prediction_cache_bytes,
            sleep_after_s=sleep_after_s,
            most_connections=most_connections,
            runtime=runtime,
            log_sample=log_sample,
            log_drop=log_drop,
            access_log=access_log,
            traces=traces,
            trace_sample=trace_sample,
        ) as server:
            if on_start is not None:
                on_start(server)
            stopping.wait()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
