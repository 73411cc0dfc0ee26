"""What is known of one answered request: who asked for what, what came of it, and where its time went."""

from dataclasses import dataclass

from shoal.serve.wire.trace_context import TraceContext


@dataclass(slots=True)
class Ran:
    """How a request for a prediction was run. Moments are monotonic seconds.

    Attributes:
        model: its name.
        version: that answered.
        request_id: the client's id for it, or the front's.
        prediction_id: of its first row.
        num_rows: that it brought.
        queued_s: when it was read and began to wait.
        taken_s: when a replica took it; for an answer from the cache, when it was found there.
        done_s: when its batch came back.
        model_s: how long the model took for the batch; 0 from the cache.
        batch_rows: rows of the batch; 0 from the cache.
        replica: the rank of the one that ran it; None from the cache.
    """

    model: str
    version: str
    request_id: str
    prediction_id: str
    num_rows: int
    queued_s: float
    taken_s: float
    done_s: float
    model_s: float
    batch_rows: int
    replica: int | None


@dataclass(slots=True)
class Passage:
    """One request from its first byte to its answer. Moments are monotonic seconds.

    Attributes:
        protocol: "http" or "grpc".
        method: of HTTP; "POST" for every call.
        path: without the query; for a call "/package.Service/Method".
        status: of HTTP; for a call what it would be there.
        client: the address that it came from, which may be a proxy's; "" where it is not known.
        num_bytes_in: of the request's body.
        num_bytes_out: of the answer's.
        started_s: when its first byte came.
        answered_s: when its answer was written.
        time_s: that moment by the wall clock, seconds since 1970.
        ran: None where nothing was predicted: it was refused, or asked for something else.
        trace: its place in a trace; None where it has none.
    """

    protocol: str
    method: str
    path: str
    status: int
    client: str
    num_bytes_in: int
    num_bytes_out: int
    started_s: float
    answered_s: float
    time_s: float
    ran: Ran | None = None
    trace: TraceContext | None = None

    def wall_ns(self, moment_s: float) -> int:
        """A moment by the wall clock, nanoseconds since 1970."""
        # Both clocks were read when the answer went out: steps of the wall clock move all moments, never some.
        return round(self.time_s * 1e9) - round((self.answered_s - moment_s) * 1e9)
