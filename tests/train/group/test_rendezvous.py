import socket
import threading
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest
from torch.distributed import PrefixStore, TCPStore

from shoal.train.base import PeerLostError
from shoal.train.group import rendezvous as module
from shoal.train.group.rendezvous import Rendezvous, connect_all, own_address


def test_the_way_to_loopback_is_loopback():
    assert own_address("127.0.0.1") == "127.0.0.1"


def test_where_no_way_leads_it_stays_on_this_host():
    assert own_address("no.such.host.invalid") == "127.0.0.1"


def test_members_on_this_host_find_it_without_any_network(monkeypatch):
    monkeypatch.setattr(module, "own_address", lambda _: pytest.fail("no way was to be looked for"))

    assert Rendezvous().address(["127.0.0.1", "127.0.0.2"]).startswith("127.0.0.1:")


def test_without_a_way_to_everywhere_the_way_to_a_member_is_enough(monkeypatch):
    ways = {"10.0.0.7": "10.0.0.1"}
    monkeypatch.setattr(module, "own_address", lambda peer: ways.get(peer, "127.0.0.1"))

    address = Rendezvous().address(["127.0.0.1", "10.9.9.9", "10.0.0.7"])

    assert address.startswith("10.0.0.1:")


def test_a_stranger_does_not_take_a_members_place():
    place = Rendezvous()
    name = f"{place.address()}/test"
    host, _, port = place.address().rpartition(":")
    store = PrefixStore("test", TCPStore(host, int(port), is_master=False))
    found = {}
    members = [
        threading.Thread(target=lambda rank=rank: found.update({rank: connect_all(name, rank, 2, lambda: None)}))
        for rank in range(2)
    ]

    members[0].start()
    target = store.get("0").decode().split()
    with ExitStack() as strangers:
        for greeting in (b"x" * 30, b"x"):
            stranger = strangers.enter_context(socket.create_connection((target[0], int(target[1]))))
            stranger.sendall(greeting)
            stranger.shutdown(socket.SHUT_WR)
        members[1].start()
        for member in members:
            member.join()

    found[0][1].setblocking(True)
    found[1][0].send(b"hello")
    assert found[0][1].recv(5) == b"hello"
    for links in found.values():
        for link in links.values():
            link.close()


def test_a_stranger_that_says_nothing_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(module, "_GREETING_S", 0.05)
    place = Rendezvous()
    host, _, port = place.address().rpartition(":")
    store = PrefixStore("test", TCPStore(host, int(port), is_master=False))
    found = {}
    over = threading.Event()

    def heed():
        if over.is_set():
            raise PeerLostError("the test is over")

    def join(rank):
        with suppress(PeerLostError):
            found[rank] = connect_all(f"{place.address()}/test", rank, 2, heed)

    members = [threading.Thread(target=join, args=(rank,)) for rank in range(2)]
    members[0].start()
    target = store.get("0").decode().split()
    with socket.create_connection((target[0], int(target[1]))):
        members[1].start()
        for member in members:
            member.join(20)
        over.set()
        for member in members:
            member.join()

    assert sorted(found) == [0, 1]
    for links in found.values():
        for link in links.values():
            link.close()


def test_a_store_that_is_gone_is_a_lost_peer(monkeypatch):
    monkeypatch.setattr(module, "_STORE_LIMIT", timedelta(seconds=1))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

    with pytest.raises(PeerLostError):
        connect_all(f"127.0.0.1:{port}/test", 0, 2, lambda: None)
