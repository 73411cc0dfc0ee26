"""One request for a prediction while it waits and runs."""

from dataclasses import dataclass

from shoal.serve.connection import Exchange
from shoal.serve.protocol import InferCall


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
    """

    exchange: Exchange
    call: InferCall
    request_id: str
    num_bytes: int
    form: object
    runs_alone: bool
    num_tries: int = 0

    @property
    def num_rows(self) -> int:
        """Rows it brings."""
        return self.call.num_rows

    @property
    def arrived_s(self) -> float:
        """When its first byte came, monotonic."""
        return self.exchange.started_s
