"""How a server is set up."""

from dataclasses import dataclass
from pathlib import Path

from shoal.base import ConfigError
from shoal.serve.host.observing import STDERR
from shoal.serve.records.log_rule import LogRule
from shoal.serve.tracing.seeing import Seeing

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Everything about a server but what it serves and its key.

    Attributes:
        replicas: processes that run the model, one thread each; (least, most) lets their number follow the load. With
            a least of 0 the server sleeps when nobody asks, and a request that comes then waits for the first replica.
        fronts: processes that talk to clients and share the port; one is enough until it takes a whole core.
        target_ms: what a request should take when the server keeps up: half for the batch in front of it, half for its
            own. Larger means larger batches: more throughput, later answers.
        host: the address to listen on; "0.0.0.0" for every network that reaches this machine.
        port: 0 takes a free one.
        grpc_port: for gRPC beside HTTP; 0 takes a free one, None serves none.
        log_folder: where predictions are logged, a folder per model; None for no log.
        log_sample: the share of requests that are logged, chosen by the hash of their ids.
        log_drop: names or patterns of inputs and outputs that are never logged.
        access_log: the file that takes a line of JSON for each answered request; "-" for this program's stderr, None
            for no lines.
        traces: the whole address that spans of requests go to, over OTLP/HTTP; None for no traces.
        trace_sample: the share of the predictions without a caller's trace that begin one.
        most_wait_s: a request that is predicted to wait longer is refused with 503.
        most_body_bytes: a larger request is refused with 413.
        most_connections: a front that has so many answers further ones with 503 and closes them; None for as many as
            the system's limit on open files allows.
        drain_s: how long a stopping server goes on answering what it has.
        start_s: how long loading may take before `start` gives up; a replica that takes longer to come up or to load a
            version is replaced.
        most_batch_s: a replica that has been at one batch for longer, and for ten times what was predicted, is killed,
            and another one runs the batch.
        prediction_cache_bytes: answers are kept in so many bytes of the fronts' memory, for inputs that come again; 0
            for no cache. Versions that are not deterministic are always run.
        sleep_after_s: with replicas=(0, most), how long nobody must ask before the last replica goes.
        runtime: where replicas run: "local" for this machine, "ray" or "ray://host:10001" for the nodes of a cluster.
            Fronts always run on this one.
    """

    replicas: int | tuple[int, int] = 2
    fronts: int = 1
    target_ms: float = 10.0
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    log_folder: Path | None = None
    log_sample: float = 1.0
    log_drop: tuple[str, ...] = ()
    access_log: str | None = None
    traces: str | None = None
    trace_sample: float = 1.0
    most_wait_s: float = 1.0
    most_body_bytes: int = 16 << 20
    most_connections: int | None = None
    drain_s: float = 10.0
    start_s: float = 60.0
    most_batch_s: float = 10.0
    prediction_cache_bytes: int = 0
    sleep_after_s: float = 60.0
    runtime: str = "local"

    def __post_init__(self) -> None:
        for name, least in (("fronts", 1), ("most_body_bytes", 1), ("drain_s", 0), ("prediction_cache_bytes", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name}={getattr(self, name)} must be >= {least}", next_step=f"leave {name} out for its default"
                )
        for name in ("target_ms", "most_wait_s", "start_s", "most_batch_s", "sleep_after_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"{name}={getattr(self, name)} must be > 0", next_step=f"leave {name} out for its default"
                )
        if self.most_connections is not None and self.most_connections < 1:
            raise ConfigError(
                f"most_connections={self.most_connections} must be >= 1",
                next_step="leave it out for the system's limit",
            )
        if self.runtime not in ("local", "ray") and not self.runtime.startswith("ray://"):
            raise ConfigError(
                f"replicas do not run on {self.runtime!r}", next_step="use one of: local, ray, ray://host:10001"
            )
        self._check_replicas()
        self._check_seen()
        for name in ("port", "grpc_port"):
            port = getattr(self, name)
            if port is not None and not 0 <= port <= _LAST_PORT:
                raise ConfigError(
                    f"{name}={port} must be from 0 to {_LAST_PORT}", next_step="choose another; 0 takes a free one"
                )
        if self.port and self.port == self.grpc_port:
            raise ConfigError(
                f"grpc_port={self.grpc_port} is the port for HTTP too", next_step="give each a port of its own"
            )

    @property
    def least_replicas(self) -> int:
        """The fewest that there should be."""
        return self.replicas if isinstance(self.replicas, int) else self.replicas[0]

    @property
    def most_replicas(self) -> int:
        """The most that there should be."""
        return self.replicas if isinstance(self.replicas, int) else self.replicas[1]

    def seeing(self, line_pipe: Path) -> Seeing:
        """What fronts remember and tell of requests; lines for stderr go through this pipe."""
        return Seeing(
            log_sample=self.log_sample,
            log_drop=self.log_drop,
            access_log=str(line_pipe) if self.access_log == STDERR else self.access_log,
            traces=self.traces,
            trace_sample=self.trace_sample,
        )

    def _check_seen(self) -> None:
        rule = self.seeing(Path()).rule
        if rule != LogRule() and self.log_folder is None:
            raise ConfigError(
                "log_sample and log_drop are given, but predictions are not logged",
                next_step="give log_folder too, or leave them out",
            )
        if not 0 <= self.trace_sample <= 1:
            raise ConfigError(
                f"trace_sample={self.trace_sample} must be from 0 to 1",
                next_step="leave it out to trace every prediction",
            )
        if self.trace_sample != 1 and self.traces is None:
            raise ConfigError(
                f"trace_sample={self.trace_sample} is given, but nothing says where traces go",
                next_step="give traces too, or leave it out",
            )

    def _check_replicas(self) -> None:
        if isinstance(self.replicas, int):
            if self.replicas < 1:
                raise ConfigError(
                    f"replicas={self.replicas} must be >= 1",
                    next_step="leave replicas out for its default, or give (0, most) for a server that may sleep",
                )
        elif not (self.replicas[0] >= 0 and self.replicas[1] >= max(1, self.replicas[0])):
            raise ConfigError(
                f"replicas={self.replicas} must be (least, most) with 0 <= least <= most and most >= 1",
                next_step="give a pair such as (1, 4), or one number",
            )
