"""Whether a request is let in: refused early, with an honest time to come back, rather than late."""

from dataclasses import dataclass

from shoal.base import ConfigError
from shoal.serve.wire.refusal import RefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How much may wait.

    Attributes:
        most_wait_s: a request that is predicted to wait longer is refused.
        most_requests: requests that wait or run at once.
        most_bytes: request bodies held at once, complete or not.
    """

    most_wait_s: float = 1.0
    most_requests: int = 4096
    most_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if self.most_wait_s <= 0 or self.most_requests < 1 or self.most_bytes < 1:
            raise ConfigError(
                f"{self} lets nothing in", next_step="give positive limits, or leave them out for the defaults"
            )


@dataclass(frozen=True, slots=True)
class Load:
    """What is in the house when a request comes.

    Attributes:
        num_requests: waiting or running.
        num_bytes: held for them and for bodies that are still arriving.
        queued_s: seconds of one replica that the waiting rows will take.
        num_replicas: replicas that can take work now; 0 while all are restarting.
    """

    num_requests: int
    num_bytes: int
    queued_s: float
    num_replicas: int

    @property
    def wait_s(self) -> float:
        """The predicted wait; with no replica up there is no telling, and the bounds alone decide."""
        return self.queued_s / self.num_replicas if self.num_replicas else 0.0


def decide(load: Load, limits: AdmissionLimits) -> RefusedError | None:
    """None to let the request in, else the 503 to answer it with."""
    if load.wait_s > limits.most_wait_s:
        return _busy(
            f"it would wait about {load.wait_s:.2f} s, more than {limits.most_wait_s:g} s",
            load.wait_s - limits.most_wait_s,
        )
    if load.num_requests >= limits.most_requests:
        return _busy(f"{load.num_requests} requests are waiting, at most {limits.most_requests} may", load.wait_s)
    if load.num_bytes >= limits.most_bytes:
        return _busy(f"{load.num_bytes} bytes of requests are held, at most {limits.most_bytes} may be", load.wait_s)
    return None


def check_deadline(load: Load, own_s: float, left_s: float) -> RefusedError | None:
    """None when a request is predicted to be answered in the time it has left, else the 503 to answer it with.

    Args:
        load: what goes before it.
        own_s: what it takes itself.
        left_s: until its deadline; infinite without one.
    """
    late_s = load.wait_s + own_s - left_s
    if late_s <= 0:
        return None
    return _busy(
        f"it would be answered in about {(load.wait_s + own_s) * 1000:.1f} ms, and has {max(left_s, 0) * 1000:.1f} ms",
        late_s,
    )


def draining() -> RefusedError:
    """The 503 of a server that answers what it has and takes nothing new."""
    refused = RefusedError(
        503,
        "the server is stopping and takes no new requests",
        next_step="send it again to another server, or to this one when it is back",
        retry_after_s=1.0,
    )
    refused.closes = True
    return refused


def _busy(reason: str, retry_after_s: float) -> RefusedError:
    return RefusedError(
        503,
        f"the server is busy: {reason}",
        next_step="send it again after the seconds in Retry-After, or serve with more replicas",
        retry_after_s=max(retry_after_s, 0.05),
    )
