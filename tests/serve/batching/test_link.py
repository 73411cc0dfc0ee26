import asyncio
import math
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from shoal.serve.batching.inference import Inference
from shoal.serve.batching.link import Batch, ReplicaLink
from shoal.serve.desk.connection import Exchange
from shoal.serve.links.channel import (
    Done,
    Failed,
    FrameReader,
    Hello,
    IncomingTensors,
    Key,
    Load,
    Loaded,
    LoadFailed,
    OutgoingTensors,
    Work,
    encode_frame,
)
from shoal.serve.wire.http import Head
from shoal.serve.wire.protocol import InferCall

KEY = Key("m", "1")


class Owner:
    def __init__(self):
        self.frames, self.lost = [], []

    def on_frame(self, link, frame):
        self.frames.append(frame)

    def on_lost(self, link):
        self.lost.append(link)


@pytest.fixture
def pair():
    front, replica = socket.socketpair(socket.AF_UNIX)
    yield front, replica
    front.close()
    replica.close()


def request(*values):
    exchange = Exchange(None, Head("POST", "/", {}, keeps_alive=True, is_old=False), 0.0)
    array = np.array([values], np.uint8)
    return Inference(exchange, InferCall(None, (array,), 1, ((0, False),)), "id", 1, form=None, runs_alone=False)


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_a_batch_goes_out_and_its_outputs_come_back(pair):
    front, replica = pair
    owner = Owner()

    async def run():
        link = ReplicaLink(front, 1, owner)
        link.run(Batch(7, KEY, [request(1, 2), request(3, 4)]))
        (work,) = FrameReader().feed(replica.recv(65536))
        incoming, outgoing = IncomingTensors(), OutgoingTensors()
        (images,) = incoming.read(work.block, work.slots)
        replica.sendall(encode_frame(Done(7, *outgoing.write([[images.astype(np.float32) * 2]]), 0.1)))
        await until(lambda: owner.frames)
        (found,) = link.outputs(owner.frames[0].block, owner.frames[0].slots)
        assert isinstance(work, Work)
        assert found.tolist() == [[2, 4], [6, 8]]
        assert not link.is_idle
        del images, found
        incoming.close()
        outgoing.close()
        link.close()

    asyncio.run(run())


def test_it_knows_who_the_replica_is_and_what_it_has(pair, interface):
    front, replica = pair
    owner = Owner()

    async def run():
        link = ReplicaLink(front, 1, owner)
        link.load(KEY, "/1")
        assert link.asked == {KEY}
        assert FrameReader().feed(replica.recv(65536)) == [Load("m", "1", "/1")]
        replica.sendall(encode_frame(Hello(3, 4711)) + encode_frame(Loaded("m", "1", "/1", interface, [], "unknown")))
        await until(lambda: len(owner.frames) == 2)
        assert (link.rank, link.pid, link.loaded, link.asked) == (3, 4711, {KEY}, set())
        assert link.is_idle
        link.close()

    asyncio.run(run())


def test_a_death_is_told_once_and_the_batch_is_still_there(pair):
    front, replica = pair
    owner = Owner()

    async def run():
        link = ReplicaLink(front, 1, owner)
        link.run(Batch(7, KEY, [request(1, 2)]))
        replica.close()
        await until(lambda: owner.lost)
        await asyncio.sleep(0)
        assert owner.lost == [link]
        assert link.batch.number == 7

    asyncio.run(run())


def test_a_batch_for_a_replica_that_has_just_died_is_told_as_lost(pair):
    front, replica = pair
    owner = Owner()

    async def run():
        link = ReplicaLink(front, 1, owner)
        replica.close()
        link.run(Batch(7, KEY, [request(1, 2)]))
        assert owner.lost == []
        await until(lambda: owner.lost)
        assert link.batch.number == 7

    asyncio.run(run())


def test_a_stuck_replica_is_killed_and_told_as_lost(pair):
    front, replica = pair
    owner = Owner()

    async def run(pid):
        link = ReplicaLink(front, 1, owner)
        replica.sendall(encode_frame(Hello(0, pid)))
        await until(lambda: owner.frames)
        link.kill()
        assert owner.lost == [link]

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            asyncio.run(run(process.pid))
            assert process.wait(20) == -signal.SIGKILL
        finally:
            process.kill()


def test_who_has_not_said_who_it_is_is_let_go_and_nobody_is_killed(pair, monkeypatch):
    front, _ = pair
    owner = Owner()
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed"))

    async def run():
        link = ReplicaLink(front, 1, owner)
        link.kill()
        assert owner.lost == [link]

    asyncio.run(run())


def test_a_frame_that_cannot_be_handled_does_not_lose_the_next(pair, caplog):
    front, replica = pair
    owner = Owner()
    hear = owner.on_frame

    def on_frame(link, frame):
        hear(link, frame)
        if isinstance(frame, Hello):
            raise NotADirectoryError("README.md")

    owner.on_frame = on_frame

    async def run():
        link = ReplicaLink(front, 1, owner)
        replica.sendall(encode_frame(Hello(3, 4711)) + encode_frame(Done(1, "", [], 0.1)))
        await until(lambda: owner.frames)
        assert [type(frame) for frame in owner.frames] == [Hello, Done]
        link.close()

    asyncio.run(run())

    assert "cannot handle a Hello of replica 3" in caplog.text


def test_it_knows_what_a_replica_is_at_and_when_it_was_heard(pair, interface):
    front, replica = pair
    two = Key("m", "2")

    async def run():
        link = ReplicaLink(front, 1, Owner())
        before = link.signs
        link.load(KEY, "/1")
        link.load(two, "/2")
        link.ping()
        asked = link.signs
        replica.sendall(encode_frame(Loaded("m", "1", "/1", interface, [], "unknown")))
        await until(lambda: link.loaded)
        halfway = link.signs
        replica.sendall(encode_frame(LoadFailed("m", "2", "broken", "mend it")))
        await until(lambda: link.failed)
        link.close()
        return before, asked, halfway, link.signs

    before, asked, halfway, after = asyncio.run(run())

    assert (before.loading, asked.loading, halfway.loading, after.loading) == (None, KEY, two, None)
    assert asked.pinged_s > asked.heard_s
    # The second load begins when the first has ended, not when it was asked for.
    assert halfway.loading_since_s >= halfway.heard_s > asked.loading_since_s
    assert after.loading_since_s == math.inf


def test_it_counts_how_long_its_replica_works(pair):
    front, replica = pair

    async def run():
        owner = Owner()
        link = ReplicaLink(front, 1, owner)
        idle_s = link.busy_s
        link.run(Batch(7, KEY, [request(1, 2)]))
        replica.sendall(encode_frame(Failed(7, "broken", blames_input=False)))
        await until(lambda: owner.frames)
        link.batch = None
        done = link.busy_s, link.busy_s
        link.close()
        return idle_s, *done

    idle_s, done_s, later_s = asyncio.run(run())

    assert idle_s == 0.0
    assert 0.0 < done_s == later_s
