"""One ASGI request over a desk without sockets: what it becomes, and every way it may end."""

import asyncio
import json

import pytest

from shoal.serve.desk.connection import Patience
from shoal.serve.mount.call import AsgiCall, read_head, send_answer, send_refusal
from shoal.serve.wire.refusal import RefusedError

BODY = json.dumps(
    {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}]}
).encode()
INFER = "/v2/models/m/infer"


def scope(path=INFER, *, method="POST", headers=(), **more):
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": list(headers),
        **more,
    }


class Client:
    """What an ASGI server would do: hands out messages, keeps what is sent."""

    def __init__(self, *messages):
        self.messages, self.sent = list(messages), []
        self.is_waiting = asyncio.Event()

    async def receive(self):
        if not self.messages:
            self.is_waiting.set()
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message):
        self.sent.append(message)

    @property
    def answer(self):
        start, body = self.sent
        return start["status"], dict(start["headers"]), body["body"]


def part(body=b"", *, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def ask(house, client, request=None, *, most_body_bytes=10_000, patience=None, meanwhile=None):
    """Run one call to its end; `meanwhile` is awaited with the call once the client has nothing more to send."""

    async def run():
        house.link(1)
        call = AsgiCall(
            house.desk, request or scope(), most_body_bytes=most_body_bytes, patience=patience or Patience()
        )
        task = asyncio.create_task(call.run(client.receive, client.send))
        if meanwhile is not None:
            await client.is_waiting.wait()
            meanwhile(call)
        else:
            # Whatever waits for a replica is run.
            while not task.done():
                await asyncio.sleep(0)
                link = house.dispatcher.links[1]
                if link.batch is not None:
                    house.dispatcher.on_done(link, link.compute())
        await task
        return call

    return asyncio.run(run())


def test_a_body_in_pieces_is_put_together_and_answered(house):
    client = Client(part(BODY[:7], more=True), part(more=True), part(BODY[7:]))

    ask(house, client)

    status, headers, body = client.answer
    assert status == 200
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(body)
    assert json.loads(body)["outputs"][0]["data"] == [10, 10, 10]
    assert house.metrics.answers[200] == 1
    assert not house.desk.connections


def test_what_needs_no_body_to_be_refused_is_refused_before_it_is_read(house):
    client = Client()

    ask(house, client, scope("/absent"))

    assert client.answer[0] == 404


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read(house):
    client = Client()

    ask(house, client, scope(headers=[(b"content-length", b"10001")]))

    assert client.answer[0] == 413
    assert client.answer[1][b"connection"] == b"close"


def test_a_body_that_grows_too_large_is_refused(house):
    client = Client(part(bytes(6), more=True), part(bytes(6), more=True))

    ask(house, client, most_body_bytes=10)

    assert client.answer[0] == 413
    assert json.loads(client.answer[2])["found"] == "at least 12 bytes"


@pytest.mark.parametrize("length", [b"", b"x", b"-1", b"9" * 30])
def test_a_length_that_is_none_is_refused_by_name(house, length):
    client = Client(part(BODY))

    ask(house, client, scope(headers=[(b"content-length", length)]))

    assert (client.answer[0], json.loads(client.answer[2])["field"]) == (400, "Content-Length")


def test_headers_that_are_too_large_are_refused(house):
    client = Client(part(BODY))

    ask(house, client, scope(headers=[(b"x", bytes(40_000))]))

    assert client.answer[0] == 431


def test_a_request_that_does_not_end_in_time_is_a_408(house):
    client = Client(part(BODY[:5], more=True))

    ask(house, client, patience=Patience(request_s=0.01))

    assert (client.answer[0], client.answer[1][b"connection"]) == (408, b"close")


def test_a_client_that_leaves_before_the_end_is_not_answered(house):
    client = Client(part(BODY[:5], more=True), {"type": "http.disconnect"})

    ask(house, client)

    assert client.sent == []
    assert not house.desk.connections


def test_the_bytes_of_a_body_count_while_it_comes(house):
    client = Client(part(BODY[:5], more=True))
    seen = []

    def look(call):
        seen.append((call.buffered_bytes, call.is_busy, call in house.desk.connections))
        client.messages.append({"type": "http.disconnect"})
        call.close()

    ask(house, client, meanwhile=look)

    assert seen == [(5, True, True)]


def test_a_front_that_ends_refuses_what_is_still_being_read(house):
    client = Client(part(BODY[:5], more=True))

    ask(house, client, meanwhile=lambda call: call.close())

    assert client.answer[0] == 503


def test_a_front_that_ends_refuses_what_no_replica_has_answered(house):
    client = Client(part(BODY))

    async def run():
        call = AsgiCall(house.desk, scope(), most_body_bytes=10_000, patience=Patience())
        task = asyncio.create_task(call.run(client.receive, client.send))
        while not house.dispatcher.num_open:
            await asyncio.sleep(0)
        call.close()
        call.close()
        await task

    asyncio.run(run())

    assert client.answer[0] == 503
    assert house.metrics.answers[503] == 1


def test_a_mistake_of_ours_is_a_500_and_no_failure_of_the_host(house, monkeypatch, caplog):
    monkeypatch.setattr(house.desk, "take", lambda *_: 1 / 0)
    client = Client(part(BODY))

    ask(house, client)

    assert client.answer[0] == 500
    assert "ZeroDivisionError" in caplog.text


def test_a_host_that_cancels_a_request_leaves_nothing_at_the_desk(house):
    client = Client()

    async def run():
        call = AsgiCall(house.desk, scope(), most_body_bytes=10_000, patience=Patience())
        task = asyncio.create_task(call.run(client.receive, client.send))
        await client.is_waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

    assert not house.desk.connections


def test_an_answer_to_head_has_the_length_and_no_body(house):
    client = Client(part())

    ask(house, client, scope("/v2", method="HEAD"))

    status, headers, body = client.answer
    assert (status, headers[b"allow"], body) == (405, b"GET", b"")
    assert int(headers[b"content-length"]) > 0


@pytest.mark.parametrize(("version", "expected"), [("1.1", b"close"), ("2", None), ("3", None)])
def test_only_old_versions_hear_that_the_connection_closes(version, expected):
    client = Client()
    refused = RefusedError(413, "too large", next_step="send less", closes=True)

    asyncio.run(send_refusal(scope(http_version=version), client.send, refused))

    assert client.answer[1].get(b"connection") == expected


def test_a_client_that_is_gone_when_it_is_answered_is_left_alone():
    async def send(_):
        raise OSError("gone")

    asyncio.run(send_answer(scope(), send, 200, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"path": "/v2"}, "/v2"),
        ({"path": "/models/v2", "root_path": "/models"}, "/v2"),
        ({"path": "/models/", "root_path": "/models"}, "/"),
        ({"path": "/models", "root_path": "/models/"}, ""),
        # The server has stripped the prefix itself, or a proxy has, or the mount is one of several.
        ({"path": "/v2", "root_path": "/models"}, "/v2"),
        ({"path": "/models/v2", "root_path": "/api/models", "app_root_path": "/api"}, "/v2"),
        ({"path": "/api/models/v2", "root_path": "/api/models", "app_root_path": "/api"}, "/v2"),
        ({"path": "/models/v2", "root_path": "/mod"}, "/models/v2"),
        # As it was sent, where that is known.
        ({"path": "/m/v2/models/a/b", "root_path": "/m", "raw_path": b"/m/v2/models/a%2Fb"}, "/v2/models/a%2Fb"),
        ({"path": "/m/v2/models/a b", "root_path": "/m", "raw_path": b"/m/v2/models/a%20b?x=1"}, "/v2/models/a%20b"),
        ({"path": "/m/v2/models/a b", "root_path": "/m", "raw_path": b"/other"}, "/v2/models/a%20b"),
        ({"path": "/m/v2/models/a b", "root_path": "/m"}, "/v2/models/a%20b"),
    ],
)
def test_the_path_begins_where_the_application_is_mounted(more, expected):
    assert read_head(scope(**more)).path == expected


def test_the_prefix_is_taken_from_the_mount_alone():
    sent = [(b"X-Forwarded-Prefix", b"/evil"), (b"X-API-Key", b"k")]

    alone, mounted = read_head(scope(headers=sent)), read_head(scope(headers=sent, root_path="/mo dels/"))

    assert b"x-forwarded-prefix" not in alone.headers
    assert mounted.headers[b"x-forwarded-prefix"] == b"/mo%20dels"
    assert alone.headers[b"x-api-key"] == b"k"
