import asyncio
import socket

import pytest

from shoal.serve.fronts import entrance
from shoal.serve.fronts.entrance import Entrance
from shoal.serve.fronts.listening import reserve
from shoal.serve.links import proof
from shoal.serve.links.proof import call, new_token
from shoal.serve.replicas.front_link import connect

TOKEN = new_token()


@pytest.fixture
def port():
    with reserve("127.0.0.1", 0) as reservation:
        yield reservation.getsockname()[1]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_replicas_of_this_machine_come_in_at_once(tmp_path):
    place = str(tmp_path / "s")
    inside = []

    async def run():
        door = Entrance(place, inside.append)
        replica = connect(place)
        await until(lambda: inside)
        door.close()
        replica.close()
        inside[0].close()

    asyncio.run(run())

    assert connect(place) is None


def test_who_knows_the_token_comes_in(port):
    inside = []

    async def run():
        door = Entrance(("127.0.0.1", port, TOKEN), inside.append)
        replica = await asyncio.to_thread(call, "127.0.0.1", port, TOKEN)
        await until(lambda: inside)
        inside[0].send(b"first")
        assert replica.recv(100) == b"first"
        assert inside[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not inside[0].getblocking()
        door.close()
        replica.close()
        inside[0].close()

    asyncio.run(run())


def test_who_does_not_is_turned_away_and_others_still_come(port, caplog):
    inside = []

    async def run():
        door = Entrance(["127.0.0.1", port, TOKEN], inside.append)
        with pytest.raises(OSError, match="hung up"):
            await asyncio.to_thread(call, "127.0.0.1", port, new_token())
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(b"x")
        replica = await asyncio.to_thread(call, "127.0.0.1", port, TOKEN)
        await until(lambda: inside)
        door.close()
        replica.close()
        inside[0].close()

    asyncio.run(run())

    assert len(inside) == 1
    assert "no replica of this server" in caplog.text


def test_strangers_who_say_nothing_are_left_and_hold_up_nobody(port, monkeypatch):
    monkeypatch.setattr(entrance, "MOST_S", 0.2)
    monkeypatch.setattr(entrance, "_MOST_UNPROVED", 2)
    inside = []

    async def run():
        door = Entrance(("127.0.0.1", port, TOKEN), inside.append)
        strangers = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        while not inside:
            try:
                replica = await asyncio.to_thread(call, "127.0.0.1", port, TOKEN)
            except OSError:
                continue
            await until(lambda: inside)
        door.close()
        for connection in (*strangers, replica, *inside):
            connection.close()

    asyncio.run(run())

    assert proof.MOST_S > 1


def test_closing_leaves_who_was_about_to_come_in(port):
    inside = []

    async def run():
        door = Entrance(("127.0.0.1", port, TOKEN), inside.append)
        stranger = socket.create_connection(("127.0.0.1", port))
        await asyncio.sleep(0.01)
        door.close()
        await asyncio.sleep(0.01)
        stranger.settimeout(20)
        while stranger.recv(100):
            """The nonce, and then the end."""
        stranger.close()

    asyncio.run(run())

    assert inside == []
