import asyncio
import socket

from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.grpc import frames, start_grpc
from shoal.serve.wire.auth import KeyCheck


def start(house, listener, *, most_connections):
    return start_grpc(
        listener,
        house.desk,
        house.models,
        house.dispatcher,
        house.metrics,
        key=KeyCheck(None),
        limits=AdmissionLimits(),
        most_body_bytes=1000,
        most_connections=most_connections,
    )


def test_a_client_for_whom_there_is_no_room_is_told_so(house, peer):
    async def body():
        server = await start(house, socket.create_server(("127.0.0.1", 0)), most_connections=0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        found = peer.read(await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()
        return found

    kind, _, _, payload = asyncio.run(body())[-1]

    assert kind == frames.GOAWAY
    assert payload[4:8] == frames.Code.ENHANCE_YOUR_CALM.to_bytes(4, "big")
    assert b"0 connections are open" in payload


def test_it_listens_on_the_socket_it_is_given_and_the_desk_knows_its_connections(house, peer):
    async def body():
        listener = socket.create_server(("127.0.0.1", 0))
        expected = listener.getsockname()[1]
        server = await start(house, listener, most_connections=10)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(peer.hello() + peer.call(1))
        found = []
        while not any(kind == frames.DATA for kind, *_ in found):
            found += peer.read(await reader.read(1000))
        num_known = len(house.desk.connections)
        server.close()
        for connection in list(house.desk.connections):
            connection.close()
        while (data := await reader.read(1000)) != b"":
            found += peer.read(data)
        writer.close()
        await writer.wait_closed()
        return (server.port, expected), num_known, found

    (port, expected), num_known, found = asyncio.run(body())

    assert port == expected
    assert num_known == 1
    assert next(payload for kind, _, _, payload in found if kind == frames.DATA) == b"\0\0\0\0\x02\x08\x01"
    assert found[-1][0] == frames.GOAWAY
    assert not house.desk.connections
