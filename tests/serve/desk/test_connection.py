import asyncio
import json
import re

import pytest

from shoal.serve.desk.connection import Connection, Patience
from shoal.serve.wire.http import KnownHeads, response
from shoal.serve.wire.refusal import RefusedError

GET = b"GET /%d HTTP/1.1\r\n\r\n"


class Transport:
    def __init__(self):
        self.written, self.closed, self.aborted, self.paused, self.ended = b"", False, False, False, False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def can_write_eof(self):
        return True

    def write_eof(self):
        self.ended = True


class Intake:
    """Keeps what it takes, so that the test answers in any order."""

    def __init__(self):
        self.taken, self.statuses, self.refusal, self.mistake = [], [], None, None
        self.known_heads, self.observer = KnownHeads(), None

    def admit(self, head):
        if self.refusal is not None:
            raise self.refusal

    def take(self, exchange, body):
        if self.mistake is not None:
            raise self.mistake
        self.taken.append((exchange, body))

    def count(self, status):
        self.statuses.append(status)

    def opened(self, connection): ...

    def closed(self, connection): ...


@pytest.fixture
def intake():
    return Intake()


@pytest.fixture
def transport():
    return Transport()


@pytest.fixture
def connection(intake, transport):
    connection = Connection(intake, most_body_bytes=100, patience=Patience(request_s=5, idle_s=9, reader_s=7))
    connection.connection_made(transport)
    return connection


def bodies(transport):
    return [part.partition(b"\r\n\r\n")[2] for part in re.split(rb"HTTP/1.1 \d{3} ", transport.written)[1:]]


def statuses(transport):
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) ", transport.written)]


def test_answers_leave_in_the_order_of_the_requests(connection, intake, transport):
    connection.data_received(GET % 1 + GET % 2 + GET % 3)

    for place in (2, 0, 1):
        intake.taken[place][0].answer(200, response(200, b"%d" % place))

    assert bodies(transport) == [b"0", b"1", b"2"]
    assert intake.statuses == [200, 200, 200]


def test_a_refused_request_leaves_the_connection_usable(connection, intake, transport):
    intake.refusal = RefusedError(404, "no", next_step="look")
    connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe")
    intake.refusal = None
    connection.data_received(b"llo" + GET % 2)

    assert transport.written.startswith(b"HTTP/1.1 404 ")
    assert len(intake.taken) == 1
    assert not transport.closed


def test_a_mistake_of_ours_is_a_500_and_goes_on(connection, intake, transport, caplog):
    intake.mistake = RuntimeError("ours")
    connection.data_received(GET % 1)
    intake.mistake = None
    connection.data_received(GET % 2)

    assert transport.written.startswith(b"HTTP/1.1 500 ")
    assert "ours" in caplog.text
    assert len(intake.taken) == 1


def test_garbage_is_told_and_the_connection_ends(connection, transport):
    async def run():
        connection.data_received(b"\0\1\2garbage")
        connection.data_received(GET % 1)

    asyncio.run(run())

    assert b"Connection: close" in transport.written
    assert transport.ended
    assert statuses(transport) == [400]


def test_garbage_after_a_good_request_waits_for_its_answer(connection, intake, transport):
    async def run():
        connection.data_received(GET % 1 + b"\0\1\2")
        intake.taken[0][0].answer(200, response(200, b"good"))

    asyncio.run(run())

    assert statuses(transport) == [200, 400]


def test_a_client_that_wants_to_close_is_closed_after_its_answer(connection, intake, transport):
    connection.data_received(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert not transport.closed

    intake.taken[0][0].answer(200, response(200, b""))

    assert b"Connection: close" in transport.written
    assert transport.closed


def test_a_careful_client_is_told_to_go_on(connection, transport):
    connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")

    assert transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_client_that_sends_faster_than_it_is_answered_is_held(connection, intake, transport):
    async def run():
        connection.data_received(b"".join(GET % number for number in range(200)))
        for _ in range(20):
            assert transport.paused
            await asyncio.sleep(0)
        # No more is begun than may be open, however much was read.
        assert len(intake.taken) == 64
        for answered in range(200):
            intake.taken[answered][0].answer(200, response(200, b""))
            await asyncio.sleep(0)

    asyncio.run(run())

    assert len(intake.taken) == 200
    assert not transport.paused


def test_a_client_that_reads_nothing_is_not_read_on(connection, intake, transport):
    async def run():
        connection.pause_writing()
        assert transport.paused
        connection.data_received(b"".join(GET % number for number in range(40)))
        await asyncio.sleep(0)
        assert intake.taken == []
        connection.resume_writing()
        while len(intake.taken) < 40:
            await asyncio.sleep(0)
        for exchange, _ in intake.taken:
            exchange.answer(200, response(200, b""))

    asyncio.run(run())

    assert not transport.paused


def test_a_request_that_does_not_end_is_408(connection, transport):
    async def run():
        connection.data_received(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe")
        connection.check(connection._since_s + 4)
        assert transport.written == b""
        connection.check(connection._since_s + 6)

    asyncio.run(run())

    assert transport.written.startswith(b"HTTP/1.1 408 ")
    assert json.loads(bodies(transport)[0])["found"] == "no end after 5 s"


def test_a_slow_head_is_408_however_it_drips(connection, transport):
    async def run():
        started_s = connection._since_s
        for byte in b"GET / HTTP/1.1\r\nHost":
            connection.data_received(bytes([byte]))
        connection.check(started_s + 6)

    asyncio.run(run())

    assert transport.written.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_and_a_waiting_one_is_not(connection, intake, transport):
    connection.data_received(GET % 1)
    connection.check(connection._since_s + 100)
    assert not transport.closed

    intake.taken[0][0].answer(200, response(200, b""))
    connection.check(connection._since_s + 100)

    assert transport.closed


def test_a_client_that_does_not_read_is_dropped(connection, transport):
    connection.pause_writing()

    connection.check(connection._paused_since_s + 8)

    assert transport.aborted


def test_an_answer_for_a_client_that_left_goes_nowhere(connection, intake, transport):
    connection.data_received(GET % 1)
    connection.connection_lost(None)

    intake.taken[0][0].answer(200, response(200, b""))

    assert transport.written == b""


def test_a_client_that_sent_all_and_shut_its_side_still_gets_its_answer(connection, intake, transport):
    connection.data_received(GET % 1)
    assert connection.eof_received()

    intake.taken[0][0].answer(200, response(200, b"here"))

    assert bodies(transport) == [b"here"]
    assert transport.closed
