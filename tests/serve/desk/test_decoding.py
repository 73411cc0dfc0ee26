import asyncio
import threading

import pytest

from shoal.serve.desk.decoding import MOST_INLINE_PIXELS, Decoding
from shoal.serve.wire.refusal import RefusedError, wrong_field

LARGE = MOST_INLINE_PIXELS + 1


class Listener:
    """What was told, and a way to wait for it."""

    def __init__(self):
        self.heard = []
        self.event = asyncio.Event()

    def __call__(self, value):
        self.heard.append(value)
        self.event.set()


def start(decoding, work, *, num_pixels=LARGE, num_bytes=10, then=None):
    listener = Listener()
    decoding.run(work, num_pixels=num_pixels, num_bytes=num_bytes, then=then or listener, refuse=listener)
    return listener


async def told(listener):
    await asyncio.wait_for(listener.event.wait(), 20)
    (value,) = listener.heard
    return value


def fail(error):
    def work():
        raise error

    return work


def test_few_pixels_are_worked_on_at_once():
    async def scene():
        listener = start(Decoding(), threading.get_ident, num_pixels=MOST_INLINE_PIXELS)
        return listener.heard

    assert asyncio.run(scene()) == [threading.get_ident()]


def test_many_pixels_are_worked_on_in_another_thread_and_told_in_the_loops():
    async def scene():
        threads = []
        listener = Listener()

        def then(thread):
            threads.extend((thread, threading.get_ident()))
            listener(None)

        Decoding().run(threading.get_ident, num_pixels=LARGE, num_bytes=1, then=then, refuse=listener)
        await told(listener)
        return threads

    worked, heard = asyncio.run(scene())

    assert worked != heard == threading.get_ident()


def test_the_loop_goes_on_meanwhile():
    async def scene():
        free = threading.Event()
        decoding = Decoding()
        listener = start(decoding, lambda: free.wait(20))
        held = decoding.num_bytes
        # The loop turns although the work does not end; then it may.
        await asyncio.sleep(0)
        free.set()
        return held, await told(listener), decoding.num_bytes

    assert asyncio.run(scene()) == (10, True, 0)


def test_a_refusal_reaches_the_client_from_either_side():
    wrong = wrong_field("body", found="a", expected="b")

    async def scene():
        decoding = Decoding()
        return [
            await told(start(decoding, fail(wrong))),
            await told(start(decoding, int, then=lambda _: fail(wrong)())),
        ]

    assert asyncio.run(scene()) == [wrong, wrong]


def test_a_mistake_of_ours_is_a_500_and_nobody_waits_for_ever(caplog):
    async def scene():
        return await told(start(Decoding(), fail(KeyError("x"))))

    assert asyncio.run(scene()).status == 500
    assert "cannot take a decoded picture" in caplog.text


def test_more_than_the_threads_can_do_soon_is_refused():
    async def scene():
        free = threading.Event()
        decoding = Decoding()
        listener = start(decoding, lambda: free.wait(20), num_pixels=200_000_000)
        with pytest.raises(RefusedError, match="pixels of pictures wait") as caught:
            start(decoding, int)
        free.set()
        await told(listener)
        await told(start(decoding, int))
        return caught.value

    refused = asyncio.run(scene())

    assert (refused.status, refused.retry_after_s) == (503, 1.0)


def test_a_server_that_has_stopped_is_told_nothing():
    free = threading.Event()

    async def scene():
        return start(Decoding(), lambda: free.wait(20))

    listener = asyncio.run(scene())
    free.set()

    assert listener.heard == []
