"""How a server is set up."""

from dataclasses import dataclass
from pathlib import Path

from shoal.base import ConfigError

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
    """

    replicas: int | tuple[int, int] = 2
    fronts: int = 1
    target_ms: float = 10.0
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    log_folder: Path | None = None
    most_wait_s: float = 1.0
    most_body_bytes: int = 16 << 20
    most_connections: int | None = None
    drain_s: float = 10.0
    start_s: float = 60.0
    most_batch_s: float = 10.0
    prediction_cache_bytes: int = 0
    sleep_after_s: float = 60.0

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
        self._check_replicas()
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
