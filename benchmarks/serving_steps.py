"""What each step of one request costs a front, in microseconds: `serving_steps.py [ROWS]`, batches of 8 by default.

The parts of a front are joined in this process, as the front joins them, and called in a loop: so caches are warm, and
under load, where a replica has just had the processor, all of it takes about half as long again. JSON of one image, as
in `serve.py`. Each figure is the median of many rounds, divided by the rows of a batch.
"""

import asyncio
import socket
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from serving_bodies import FORMS, MODEL_NAME
from serving_model import NUM_CLASSES, SIDE, make_images

from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.batching.dispatch import Dispatcher
from shoal.serve.batching.inference import Inference
from shoal.serve.batching.link import Batch
from shoal.serve.desk.connection import Connection, Exchange, Patience
from shoal.serve.desk.desk import Desk
from shoal.serve.links.channel import FrameReader, IncomingTensors, Key, Loaded, OutgoingTensors, Work, encode_frame
from shoal.serve.links.messages import ModelPlan
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import Metrics
from shoal.serve.versions.models import Models
from shoal.serve.versions.router import Shares
from shoal.serve.wire.auth import KeyCheck
from shoal.serve.wire.http import Head, RequestReader
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.outputs import BatchOutputs

ROUNDS = 2_000
INTERFACE = Interface(
    (TensorField("image", "UINT8", (None, SIDE, SIDE)),),
    (TensorField("scores", "FP32", (None, NUM_CLASSES)),),
    batched=True,
)
KEY = Key(MODEL_NAME, "1")


class _Nowhere:
    """A connection that drops what it is given."""

    def write(self, data: bytes) -> None: ...

    def get_extra_info(self, name: str) -> None: ...


class Front:
    """The parts of a front, without sockets and processes."""

    def __init__(self) -> None:
        self.models, metrics = Models(), Metrics()
        journal = Journal(None, metrics)
        self.dispatcher = Dispatcher(self.models, journal, metrics, target_ms=10.0, most_batch_s=10.0)
        parts = (self.models, self.dispatcher, journal, metrics)
        self.desk = Desk(*parts, key=KeyCheck(None), limits=AdmissionLimits(most_requests=1 << 20, most_wait_s=1e6))
        self.models.plan = {KEY.model: ModelPlan({KEY.version: "/1"}, {KEY.version: 1.0})}
        self.models.shares = {KEY.model: Shares.of({KEY.version: 1.0})}
        self.served = self.models.add(Loaded(*KEY, "/1", INTERFACE, [(1, 0.0003), (32, 0.008)], "classification"))
        self.connection = Connection(self.desk, most_body_bytes=1 << 20, patience=Patience())
        self.connection.connection_made(_Nowhere())  # type: ignore[arg-type]  # of a transport it asks no more

    def exchange(self, head: Head) -> Exchange:
        """A request that is open."""
        return Exchange(self.connection, head, time.monotonic())


def main() -> None:
    """Print the table."""
    num_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    asyncio.run(_measure(num_rows))


async def _measure(num_rows: int) -> None:
    front = Front()
    dispatcher, desk = front.dispatcher, front.desk
    request = FORMS["open json"](make_images(1)[0])
    reader = RequestReader(most_body_bytes=1 << 20, known=desk.known_heads)
    reader.feed(request)
    head, body = reader.feed(request)
    desk.admit(head)
    decoded = _us(lambda: front.served.protocol.decode(body))
    # Not now: what waits is to be looked at by hand.
    dispatcher._is_pump_due = True  # noqa: SLF001  # as it says
    taken = _us(lambda: desk.take(front.exchange(head), body), after=lambda: dispatcher.queue.take({KEY}, _all, 0.0))
    steps = {
        "a  bytes to a head that is known": _us(lambda: reader.feed(request)),
        "b  judged and let in": _us(lambda: desk.admit(head)),
        "c  JSON to an array": decoded,
        "d  id, version, queue": taken - decoded,
        "e  batch into shared memory, frame": _us(_handing_over(front, head, body, num_rows)) / num_rows,
        "f  replica: frame, views, answer's frame": _us(_replica(num_rows)) / num_rows,
        "g  numbered, written as JSON, counted": _us(_answering(front, head, body, num_rows)) / num_rows,
        "h  socket: read and write, in the kernel": _socket_us(request),
    }
    for name, microseconds in steps.items():
        print(f"{name:44}{microseconds:6.1f} us")
    print(f"{'sum':44}{sum(steps.values()):6.1f} us")


def _handing_over(front: Front, head: Head, body: bytes, num_rows: int) -> Callable[[], object]:
    outgoing, batch = OutgoingTensors(), _batch(front, head, body, num_rows)

    def hand_over() -> None:
        block, slots = outgoing.write(batch.inputs())
        encode_frame(Work(1, *KEY, block, slots))

    return hand_over


def _replica(num_rows: int) -> Callable[[], object]:
    outgoing, incoming, back = OutgoingTensors(), IncomingTensors(), OutgoingTensors()
    frame = encode_frame(Work(1, *KEY, *outgoing.write([[np.zeros((num_rows, SIDE, SIDE), np.uint8)]])))
    outputs = np.zeros((num_rows, NUM_CLASSES), np.float32)
    reader = FrameReader()

    def run() -> None:
        (work,) = reader.feed(frame)
        incoming.read(work.block, work.slots)
        encode_frame(Work(1, *KEY, *back.write([[outputs]])))

    return run


def _answering(front: Front, head: Head, body: bytes, num_rows: int) -> Callable[[], object]:
    scores = np.random.default_rng(0).standard_normal((num_rows, NUM_CLASSES)).astype(np.float32)

    def answer() -> None:
        batch = _batch(front, head, body, 0)
        # Decoding again would be counted here.
        batch.requests = [Inference(front.exchange(head), call, "id", 1, None, runs_alone=False) for call in calls]
        for request in batch.requests:
            front.connection._open.append(request.exchange)  # noqa: SLF001  # as the connection does itself
        outputs = BatchOutputs([scores], batched=True)
        answers.answer_batch(batch, front.served, outputs, 0.001)

    calls = [front.served.protocol.decode(body) for _ in range(num_rows)]
    answers = front.dispatcher._answers  # noqa: SLF001  # the part that is measured
    return answer


def _batch(front: Front, head: Head, body: bytes, num_rows: int) -> Batch:
    protocol = front.served.protocol
    return Batch(
        1,
        KEY,
        [
            Inference(front.exchange(head), protocol.decode(body), "id", 1, None, runs_alone=False)
            for _ in range(num_rows)
        ],
    )


def _socket_us(request: bytes) -> float:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        answer = bytes(400)
        taken = []
        for _ in range(ROUNDS):
            client.sendall(request)
            began = time.perf_counter()
            server.recv(1 << 18)
            server.sendall(answer)
            taken.append(time.perf_counter() - began)
            client.recv(1 << 16)
    return statistics.median(taken) * 1e6


def _us(call: Callable[[], object], *, after: Callable[[], object] = lambda: None) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
        after()
    return statistics.median(taken) * 1e6


def _all(_: Key) -> int:
    return 1 << 20


if __name__ == "__main__":
    main()
