import asyncio
import socket

import numpy as np
import pytest

from shoal.base import StorageFullError
from shoal.serve.batching import remote_link
from shoal.serve.batching.inference import Inference
from shoal.serve.batching.link import Batch
from shoal.serve.batching.remote_link import RemoteLink
from shoal.serve.desk.connection import Exchange
from shoal.serve.links import inline
from shoal.serve.links.channel import Done, Hello, Key, Load, Loaded, Ping, Work
from shoal.serve.links.inline import InlineReader, InlineTensors, encode_inline
from shoal.serve.wire.http import Head
from shoal.serve.wire.protocol import InferCall

KEY = Key("m", "1")


class Owner:
    def __init__(self):
        self.frames, self.lost, self.ended = [], [], []

    def on_frame(self, link, frame):
        self.frames.append(frame)

    def on_lost(self, link):
        self.lost.append(link)

    def end(self, rank, pid):
        self.ended.append((rank, pid))


class Replica:
    """The other end, which reads and writes when the test says so."""

    def __init__(self, connection):
        self.connection = connection
        self._reader = InlineReader()

    def receive(self):
        while True:
            num_bytes = self.connection.recv_into(self._reader.room())
            assert num_bytes
            if (arrival := self._reader.took(num_bytes)) is not None:
                return arrival

    def send(self, frame, *tensors):
        outgoing = InlineTensors()
        outgoing.write([[tensor] for tensor in tensors])
        self.connection.sendall(b"".join(bytes(piece) for piece in encode_inline(frame, outgoing.take())))

    def done(self, number, *tensors):
        _, slots = InlineTensors().write([[tensor] for tensor in tensors])
        self.send(Done(number, "", slots, 0.1), *tensors)


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        replica = socket.create_connection(listener.getsockname())
        front, _ = listener.accept()
    replica.settimeout(20)
    yield front, Replica(replica)
    front.close()
    replica.close()


def request(array):
    exchange = Exchange(None, Head("POST", "/", {}, keeps_alive=True, is_old=False), 0.0)
    call = InferCall(None, (array,), len(array), ((0, False),))
    return Inference(exchange, call, "id", 1, form=None, runs_alone=False)


def batch(*arrays, number=7):
    return Batch(number, KEY, [request(array) for array in arrays])


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_a_batch_goes_out_joined_and_its_outputs_come_back(pair):
    front, replica = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        link.run(batch(np.array([[1, 2]], np.uint8), np.array([[3, 4]], np.uint8)))
        work, (images,) = await asyncio.to_thread(replica.receive)
        replica.done(7, images.astype(np.float32) * 2)
        await until(lambda: owner.frames)
        (found,) = link.outputs(owner.frames[0].block, owner.frames[0].slots)
        assert isinstance(work, Work)
        assert found.tolist() == [[2, 4], [6, 8]]
        assert not link.is_idle
        link.close()

    asyncio.run(run())


def test_it_knows_who_the_replica_is_where_and_what_it_has(pair, interface):
    front, replica = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        link.load(KEY, "/1")
        assert (await asyncio.to_thread(replica.receive)).frame == Load("m", "1", "/1")
        replica.send(Hello(3, 4711, "10.0.0.7"))
        replica.send(Loaded("m", "1", "/1", interface, [], "unknown"))
        await until(lambda: len(owner.frames) == 2)
        assert (link.rank, link.pid, link.host, link.loaded) == (3, 4711, "10.0.0.7", {KEY})
        link.close()

    asyncio.run(run())


def test_a_replica_that_reads_nothing_stops_nobody_and_gets_the_rest_later(pair):
    front, replica = pair
    owner = Owner()
    images = np.random.default_rng(0).integers(0, 255, (40, 1 << 20), np.uint8)

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        # Far more than both sockets hold: that this returns is the test.
        link.run(batch(images[:10], images[10:]))
        link.ping()
        assert owner.lost == []
        reading = asyncio.create_task(asyncio.to_thread(replica.receive))
        work, (found,) = await reading
        assert work.batch == 7
        assert np.array_equal(found, images)
        assert (await asyncio.to_thread(replica.receive)).frame == Ping()
        replica.done(7, np.zeros(3))
        await until(lambda: owner.frames)
        link.batch = None
        link.run(batch(images[:1], number=8))
        assert (await asyncio.to_thread(replica.receive)).frame.batch == 8
        link.close()

    asyncio.run(run())


def test_large_outputs_come_in_pieces(pair):
    front, replica = pair
    owner = Owner()
    scores = np.random.default_rng(0).random((1000, 2000))

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        link.run(batch(np.zeros((1, 2), np.uint8)))
        await asyncio.to_thread(replica.receive)
        sending = asyncio.create_task(asyncio.to_thread(replica.done, 7, scores))
        await until(lambda: owner.frames)
        await sending
        assert np.array_equal(link.outputs("", [])[0], scores)
        link.close()

    asyncio.run(run())


def test_who_leaves_too_many_frames_unread_is_let_go(pair, monkeypatch):
    monkeypatch.setattr(remote_link, "_MOST_WAITING_BYTES", 1000)
    front, _ = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        for number in range(100_000):
            link.load(KEY, f"/{number}")
            if number % 1000 == 0:
                await asyncio.sleep(0)
            if owner.lost:
                break
        assert owner.lost == [link]

    asyncio.run(run())


def test_a_large_batch_that_waits_is_not_too_much(pair, monkeypatch):
    monkeypatch.setattr(remote_link, "_MOST_WAITING_BYTES", 1000)
    front, _ = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        link.run(batch(np.zeros((40, 1 << 20), np.uint8)))
        await asyncio.sleep(0)
        assert owner.lost == []
        link.close()

    asyncio.run(run())


def test_a_death_is_told_once_and_the_batch_is_still_there(pair):
    front, replica = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        link.run(batch(np.zeros((40, 1 << 20), np.uint8)))
        replica.connection.close()
        await until(lambda: owner.lost)
        await asyncio.sleep(0)
        assert owner.lost == [link]
        assert link.batch.number == 7

    asyncio.run(run())


def test_a_batch_for_a_replica_that_is_gone_is_told_as_lost(pair):
    front, replica = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        replica.connection.close()
        link.ping()
        link.run(batch(np.zeros((1, 2), np.uint8)))
        assert owner.lost == []
        await until(lambda: owner.lost)
        assert link.batch.number == 7
        link.ping()

    asyncio.run(run())


def test_a_stuck_replica_is_ended_by_the_supervisor_never_by_its_number_here(pair, monkeypatch):
    monkeypatch.setattr("os.kill", lambda *_: pytest.fail("killed"))
    front, replica = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        replica.send(Hello(3, 4711, "10.0.0.7"))
        await until(lambda: owner.frames)
        link.kill()
        assert owner.lost == [link]

    asyncio.run(run())

    assert owner.ended == [(3, 4711)]


def test_who_has_not_said_who_it_is_is_let_go_and_nobody_ended(pair):
    front, _ = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        link.kill()
        assert owner.lost == [link]

    asyncio.run(run())

    assert owner.ended == []


@pytest.mark.parametrize("noise", [b"\xff" * 12, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"])
def test_who_sends_no_frames_is_let_go(pair, noise, caplog):
    front, replica = pair
    owner = Owner()

    async def run():
        link = RemoteLink(front, 1, owner, owner.end)
        replica.connection.sendall(noise)
        await until(lambda: owner.lost)
        assert link.signs.heard_s

    asyncio.run(run())

    assert "is let go" in caplog.text


def test_a_batch_beyond_the_bound_leaves_the_link_idle(pair, monkeypatch):
    monkeypatch.setattr(inline, "MOST_TENSOR_BYTES", 100)
    front, _ = pair

    async def run():
        link = RemoteLink(front, 1, Owner(), lambda *_: None)
        with pytest.raises(StorageFullError):
            link.run(batch(np.zeros((1, 200), np.uint8)))
        assert link.batch is None
        link.close()

    asyncio.run(run())
