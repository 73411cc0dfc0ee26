import socket

import pytest

from shoal.serve.links.channel import Ping, Pong, encode_frame
from shoal.serve.replicas.front_link import FrontLink, connect


@pytest.fixture
def pair():
    front, replica = socket.socketpair(socket.AF_UNIX)
    yield front, replica
    front.close()
    replica.close()


def test_frames_come_and_go_whole(pair):
    front, replica = pair
    link = FrontLink(1, replica)
    front.sendall(encode_frame(Ping()) * 2)

    assert link.receive() == [Ping(), Ping()]
    link.send(Pong(), Pong())
    assert front.recv(100) == encode_frame(Pong()) * 2


def test_a_front_that_is_gone_is_told_by_the_next_read_alone(pair):
    front, replica = pair
    link = FrontLink(1, replica)
    front.close()

    link.send(Pong())

    assert link.receive() is None
    link.close()
    link.send(Pong())


def test_where_nobody_listens_there_is_no_connection(tmp_path):
    place = tmp_path / "s"

    assert connect(str(place)) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        connection = connect(str(place))
        assert connection is not None
        connection.close()
