"""How a server is set up."""

from dataclasses import dataclass
from pathlib import Path

from shoal.base import ConfigError

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Everything about a server but what it serves and its key.

    Attributes:
        replicas: processes that run the model, one thread each.
        target_ms: what a request should take when the server keeps up: half for the batch in front of it, half for its
            own. Larger means larger batches: more throughput, later answers.
        host: the address to listen on; "0.0.0.0" for every network that reaches this machine.
        port: 0 takes a free one.
        log_folder: where predictions are logged, a folder per model; None for no log.
        most_wait_s: a request that is predicted to wait longer is refused with 503.
        most_body_bytes: a larger request is refused with 413.
        drain_s: how long a stopping server goes on answering what it has.
        start_s: how long loading may take before `start` gives up.
        most_batch_s: a replica that has been at one batch for longer, and for ten times what was predicted, is killed,
            and another one runs the batch.
    """

    replicas: int = 2
    target_ms: float = 10.0
    host: str = "127.0.0.1"
    port: int = 8080
    log_folder: Path | None = None
    most_wait_s: float = 1.0
    most_body_bytes: int = 16 << 20
    drain_s: float = 10.0
    start_s: float = 60.0
    most_batch_s: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("replicas", 1), ("most_body_bytes", 1), ("drain_s", 0)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"{name}={getattr(self, name)} must be >= {least}", next_step=f"leave {name} out for its default"
                )
        for name in ("target_ms", "most_wait_s", "start_s", "most_batch_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"{name}={getattr(self, name)} must be > 0", next_step=f"leave {name} out for its default"
                )
        if not 0 <= self.port <= _LAST_PORT:
            raise ConfigError(
                f"port={self.port} must be from 0 to {_LAST_PORT}", next_step="choose another; 0 takes a free one"
            )
