import socket
import threading

import numpy as np
import pytest

from shoal.serve.links.channel import Done, Ping, Pong, Work
from shoal.serve.links.inline import InlineReader, InlineTensors, encode_inline
from shoal.serve.links.proof import answer, new_token
from shoal.serve.replicas import remote_front_link
from shoal.serve.replicas.remote_front_link import Door, RemoteFrontLink


@pytest.fixture
def pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        front = socket.create_connection(listener.getsockname())
        replica, _ = listener.accept()
    front.settimeout(20)
    yield front, RemoteFrontLink(1, replica)
    front.close()
    replica.close()


def joined(frame, *tensors):
    outgoing = InlineTensors()
    outgoing.write([[tensor] for tensor in tensors])
    return b"".join(bytes(piece) for piece in encode_inline(frame, outgoing.take()))


def work(*tensors):
    _, slots = InlineTensors().write([[tensor] for tensor in tensors])
    return joined(Work(7, "m", "1", "", slots), *tensors)


def receive(front):
    reader = InlineReader()
    while True:
        num_bytes = front.recv_into(reader.room())
        assert num_bytes
        if (arrival := reader.took(num_bytes)) is not None:
            return arrival


def whole(link):
    """The next frames, in as many reads as they need."""
    while not (frames := link.receive()):
        assert frames == []
    return frames


def test_work_comes_with_its_tensors_and_the_answer_leaves_with_its_own(pair):
    front, link = pair
    images = np.arange(12, dtype=np.uint8).reshape(3, 4)
    front.sendall(work(images) + joined(Ping()))

    frames = []
    while len(frames) < 2:
        frames += whole(link)
    (found,) = link.incoming.read(frames[0].block, frames[0].slots)
    block, slots = link.outgoing.write([[found * 2.0]])
    # Whatever else is sent in between has no tensors.
    link.send(Pong())
    link.send(Done(7, block, slots, 0.1))

    assert frames[1] == Ping()
    assert receive(front).frame == Pong()
    assert receive(front).tensors[0].tolist() == (images * 2.0).tolist()
    assert (link.slot, link.host) == (1, "127.0.0.1")


def test_half_a_batch_is_waited_for(pair):
    front, link = pair
    data = work(np.zeros(10_000))
    front.sendall(data[:-1])

    before = [link.receive() for _ in range(3)]
    front.sendall(data[-1:])

    assert before == [[], [], []]
    assert whole(link)[0].batch == 7


def test_a_front_that_is_gone_is_told_by_the_next_read_alone(pair):
    front, link = pair
    front.sendall(joined(Ping()))
    front.close()

    found = []
    while (frames := link.receive()) is not None:
        found += frames
    link.send(Pong())

    assert found == [Ping()]
    link.close()
    link.send(Pong())


def test_a_front_that_sends_no_frames_is_as_good_as_gone(pair):
    front, link = pair
    front.sendall(b"\xff" * 12)

    while (frames := link.receive()) == []:
        """It is on its way."""

    assert frames is None


def test_a_front_that_takes_nothing_is_left(pair, monkeypatch):
    monkeypatch.setattr(remote_front_link, "_STUCK_MS", 50)
    _, link = pair
    block, slots = link.outgoing.write([[np.zeros(10_000_000)]])

    link.send(Done(7, block, slots, 0.1))

    while link.receive() == []:
        """The end is on its way."""
    link.send(Pong())


def test_a_door_leads_to_a_front_as_soon_as_there_is_one():
    token = new_token()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    door = Door("127.0.0.1", port, token)
    before = [door() for _ in range(100)]

    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(20)

        def welcome():
            while True:
                connection, _ = listener.accept()
                if answer(connection, token):
                    return connection

        found = []
        thread = threading.Thread(target=lambda: found.append(welcome()))
        thread.start()
        while (connection := door()) is None:
            """It is being connected."""
        thread.join()
        connection.sendall(b"hello")

        assert set(before) == {None}
        assert found[0].recv(100) == b"hello"
        connection.close()
        found[0].close()


def test_a_door_to_somebody_who_says_nothing_holds_up_nobody():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        door = Door("127.0.0.1", listener.getsockname()[1], new_token())

        found = [door() for _ in range(100)]

        assert set(found) == {None}
