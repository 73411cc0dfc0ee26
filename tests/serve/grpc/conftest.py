"""A client of HTTP/2 that can break every rule, and a front's parts behind a gRPC door in a loop of their own."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator

import hpack
import pytest
import uvloop

from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.grpc import GrpcServer, frames
from shoal.serve.grpc.frames import FrameReader
from shoal.serve.grpc.service import GrpcService
from shoal.serve.wire.auth import KeyCheck

METHOD = "/inference.GRPCInferenceService/"


class Peer:
    """Writes a client's frames and reads a server's."""

    def __init__(self) -> None:
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self._reader = FrameReader(max_frame_bytes=1 << 24)
        list(self._reader.feed(frames.PREFACE))

    @staticmethod
    def hello(values=None) -> bytes:
        return frames.PREFACE + frames.settings(values or {})

    def head(self, stream, path=f"{METHOD}ServerLive", *, flags=0, **headers) -> bytes:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        return frames.frame(frames.HEADERS, frames.END_HEADERS | flags, stream, self.encoder.encode(fields))

    @staticmethod
    def data(stream, message=b"", *, flags=frames.END_STREAM, mark=0) -> bytes:
        return frames.frame(frames.DATA, flags, stream, bytes([mark]) + len(message).to_bytes(4, "big") + message)

    def call(self, stream, path=f"{METHOD}ServerLive", message=b"", **headers) -> bytes:
        return self.head(stream, path, **headers) + self.data(stream, message)

    def read(self, data) -> list:
        """The server's frames, headers decoded: (kind, flags, stream, payload or headers)."""
        return [
            (kind, flags, stream, dict(self.decoder.decode(payload)) if kind == frames.HEADERS else payload)
            for kind, flags, stream, payload in self._reader.feed(data)
        ]


@pytest.fixture
def peer() -> Peer:
    return Peer()


class Door:
    """A front's parts with a gRPC door, in a loop of their own; replicas are fakes that answer at once when told so."""

    def __init__(self, house, limits: AdmissionLimits, *, key: str | None, most_body_bytes: int) -> None:
        self.house = house
        self.service = GrpcService(
            house.desk,
            house.models,
            house.dispatcher,
            house.metrics,
            key=KeyCheck(key),
            limits=limits,
            most_body_bytes=most_body_bytes,
        )
        self.server = GrpcServer(self.service, most_connections=1000)
        self.loop = uvloop.new_event_loop()
        self.port = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.port = self.do(self._start())

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def do(self, work):
        """Run a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def tell(self, work: Callable[[], object]):
        """Call something in the loop."""

        async def call():
            return work()

        return self.do(call())

    def add_replica(self, *, is_quick: bool = True):
        """One more replica; a quick one answers every batch in the loop's next turn."""
        link = self.tell(lambda: self.house.link(len(self.house.dispatcher.links) + 1))
        if is_quick:
            run = link.run

            def run_and_answer(batch):
                run(batch)
                self.loop.call_soon(lambda: self.house.dispatcher.on_done(link, link.compute()))

            link.run = run_and_answer
        return link

    def close(self) -> None:
        async def end():
            self.server.close()
            for connection in list(self.house.desk.connections):
                connection._transport.abort()
            await asyncio.sleep(0)

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(20)
        self.loop.close()

    async def _start(self) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        return await self.server.start(listener)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


@pytest.fixture
def open_door(build_house) -> Iterator[Callable[..., Door]]:
    """Opens doors, and closes them afterwards."""
    doors: list[Door] = []

    def open_door(*, key=None, most_body_bytes=1 << 20, limits=None) -> Door:
        doors.append(Door(build_house(), limits or AdmissionLimits(), key=key, most_body_bytes=most_body_bytes))
        return doors[-1]

    yield open_door
    for door in doors:
        door.close()


@pytest.fixture
def door(open_door) -> Door:
    """One with a quick replica of the scorer."""
    door = open_door()
    door.add_replica()
    return door
