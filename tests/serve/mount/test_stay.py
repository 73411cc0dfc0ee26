"""A server in a host's loop, from its start to its end; most of it with what stands in for a server."""

import asyncio
import threading

import pytest

from shoal.base import ServeError
from shoal.serve.mount.stay import Stay


class FakeServer:
    def __init__(self):
        self.is_stopped = threading.Event()

    def stop(self):
        self.is_stopped.set()


def test_it_has_a_server_until_it_ends():
    server = FakeServer()

    async def run():
        stay = Stay(lambda take_in: server)
        before = stay.running
        found = await stay.server()
        during = stay.running
        await stay.end()
        await stay.end()
        return before, found, during, stay

    before, found, during, stay = asyncio.run(run())

    assert (before, found, during, stay.running) == (None, server, server, None)
    assert server.is_stopped.is_set()
    assert stay.is_over
    assert stay.failed_s is None


def test_a_start_that_fails_is_told_to_all_who_wait_and_it_is_over(caplog):
    def fail(_):
        raise ServeError("no model", next_step="give one", status=503)

    async def run():
        stay = Stay(fail)
        found = await asyncio.gather(stay.server(), stay.desk(), return_exceptions=True)
        await stay.end()
        return found, stay

    found, stay = asyncio.run(run())

    assert [error.message for error in found] == ["no model", "no model"]
    assert stay.is_over
    assert stay.running is None
    assert stay.failed_s is not None
    assert "no model" in caplog.text


def test_one_who_waits_for_the_start_and_goes_does_not_end_it():
    going = threading.Event()

    def make(_):
        going.wait()
        return FakeServer()

    async def run():
        stay = Stay(make)
        waiting = asyncio.create_task(stay.server())
        await asyncio.sleep(0)
        waiting.cancel()
        going.set()
        found = await stay.server()
        await stay.end()
        return found

    assert isinstance(asyncio.run(run()), FakeServer)


def test_a_server_that_cannot_be_stopped_in_order_is_told_and_it_is_over(caplog):
    class Stubborn(FakeServer):
        def stop(self):
            raise RuntimeError("no")

    async def run():
        stay = Stay(lambda take_in: Stubborn())
        await stay.server()
        await stay.end()
        return stay

    assert asyncio.run(run()).is_over
    assert "not stopped in order" in caplog.text


def test_where_the_loop_was_closed_the_server_is_stopped_all_the_same(eventually):
    server = FakeServer()
    loop = asyncio.new_event_loop()

    async def begin():
        stay = Stay(lambda take_in: server)
        await stay.server()
        return stay

    stay = loop.run_until_complete(begin())
    loop.close()
    stay.abandon()

    eventually(server.is_stopped.is_set)
    assert stay.is_ending


@pytest.mark.slow
def test_an_end_during_the_start_does_not_wait_for_it(scorer):
    from shoal.serve import asgi

    models = asgi(scorer, replicas=1, start_s=3600)

    async def run():
        starting = asyncio.create_task(models.start())
        # Until the front lives in the loop, where the replicas will come to it.
        while models._stay is None or models._stay._guest._stay is None:
            await asyncio.sleep(0.001)
        await models.stop()
        return (await asyncio.gather(starting, return_exceptions=True))[0]

    found = asyncio.run(run())

    # It had come up just before, or it was ended.
    assert found is None or isinstance(found, Exception)
