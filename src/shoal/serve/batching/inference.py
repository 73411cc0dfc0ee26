"""One request for a prediction while it waits and runs."""

import math
from dataclasses import dataclass, field
from typing import Protocol

from shoal.serve.batching.cache import NotedCall
from shoal.serve.records.passage import Ran
from shoal.serve.wire.protocol import InferCall
from shoal.serve.wire.refusal import RefusedError
from shoal.serve.wire.urgency import DEFAULT_LEVEL


class Exchange(Protocol):
    """Where the answer goes: a request over HTTP, or a call over gRPC.

    Attributes:
        started_s: when its first byte came, monotonic.
        answered: the answer, once there is one.
        ran: how it was run, where an observer is to know.
    """

    started_s: float
    answered: bytes | None
    ran: Ran | None

    def give(self, body: bytes, json_bytes: int | None) -> None:
        """Send the answer to a request for a prediction, `json_bytes` of which are JSON when raw tensors follow."""

    def refuse(self, refused: RefusedError) -> None:
        """Send why there is none."""


@dataclass(slots=True, eq=False)
class Inference:
    """What the front keeps of a request until it is answered.

    Attributes:
        exchange: where the answer goes.
        call: the decoded request.
        request_id: the client's id for it, or the front's.
        num_bytes: of its body, held until it is answered.
        form: requests of different form cannot be stacked.
        runs_alone: it must have a batch of its own.
        num_tries: how many replicas died on it.
        level: its priority, 1 the highest.
        deadline_s: when its answer is worth nothing any more, monotonic.
        queued_s: when it was read and began to wait, monotonic.
        taken_s: when a replica last took it, monotonic.
        cache_key: (number of the version, digest of the inputs) where its answer may be kept.
        num_rows: rows it brings.
    """

    exchange: Exchange
    call: InferCall | NotedCall
    request_id: str
    num_bytes: int
    form: object
    runs_alone: bool
    num_tries: int = 0
    level: int = DEFAULT_LEVEL
    deadline_s: float = math.inf
    queued_s: float = 0.0
    taken_s: float = 0.0
    cache_key: tuple[int, bytes] | None = None
    num_rows: int = field(init=False)

    def __post_init__(self) -> None:
        # Asked for again and again while it waits and runs.
        self.num_rows = self.call.num_rows

    @property
    def arrived_s(self) -> float:
        """When its first byte came, monotonic."""
        return self.exchange.started_s
