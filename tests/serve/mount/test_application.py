"""The application as a host calls it: its life, its loops, and what it tells while it has no models."""

import asyncio
import gc
import json

import httpx
import psutil
import pytest

from shoal.base import ConfigError, ServeError, UnavailableError, UnsupportedError
from shoal.serve import asgi
from shoal.serve.mount.application import Application

PLAIN = b'{"image": [[1, 2], [3, 4]]}'


async def post(models, *, path="/predict"):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(models), base_url="http://host") as client:
        return await client.post(path, content=PLAIN)


@pytest.mark.parametrize("options", [{"replicas": 0}, {"target_ms": 0}, {"most_wait_s": -1}])
def test_an_impossible_option_is_refused_when_it_is_made(options):
    with pytest.raises(ConfigError):
        asgi("model.onnx", **options)


def test_it_is_made_without_a_loop_and_starts_nothing(scorer):
    models = asgi(scorer)

    assert isinstance(models, Application)
    with pytest.raises(UnavailableError, match="not served yet"):
        models.pids()


def test_without_a_loop_of_asyncio_it_says_so(scorer):
    with pytest.raises(UnsupportedError, match="no event loop of asyncio"):
        asgi(scorer).start().send(None)


@pytest.mark.slow
def test_requests_that_come_first_wait_for_the_start(scorer):
    models = asgi(scorer, replicas=1)

    async def run():
        answers = await asyncio.gather(*(post(models) for _ in range(5)))
        replicas = models.pids()
        await models.stop()
        after = await post(models)
        return answers, replicas, after

    answers, replicas, after = asyncio.run(run())

    assert [answer.status_code for answer in answers] == [200] * 5
    assert after.status_code == 503
    assert len(replicas) == 1
    assert not any(map(psutil.pid_exists, replicas))


@pytest.mark.slow
def test_it_may_be_started_again_also_in_another_loop(scorer):
    models = asgi(scorer, replicas=1)

    async def run():
        async with models.lifespan():
            return (await post(models)).status_code

    async def run_without():
        return (await post(models)).status_code

    async def again():
        await models.start()
        status = (await post(models)).status_code
        await models.stop()
        return status

    assert [asyncio.run(run()), asyncio.run(run())] == [200, 200]
    assert asyncio.run(run_without()) == 503
    assert asyncio.run(again()) == 200


@pytest.mark.slow
# The disorder is the host's: its tasks and the front's sockets are found by the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_was_closed_in_disorder_is_left_for_the_next(scorer, eventually):
    models = asgi(scorer, replicas=1)
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(post(models))
    replicas = models.pids()
    # What a torn-down test leaves: tasks that nobody cancelled.
    loop.close()

    second = asyncio.run(post(models))

    assert (first.status_code, second.status_code) == (200, 200)
    eventually(lambda: not any(map(psutil.pid_exists, replicas)))
    del loop
    gc.collect()


@pytest.mark.slow
def test_two_loops_at_once_are_refused(scorer):
    models = asgi(scorer, replicas=1)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(models.start())

    try:
        with pytest.raises(UnsupportedError, match="two event loops"):
            asyncio.run(models.start())
        told = asyncio.run(post(models))
    finally:
        loop.run_until_complete(models.stop())
        loop.close()

    assert told.status_code == 503


def test_a_model_that_is_not_there_is_told_at_the_start_and_kept_from_clients(tmp_path, caplog):
    models = asgi(tmp_path / "secret.onnx", replicas=1)

    async def run():
        with pytest.raises(Exception, match="there is no such file"):
            await models.start()
        answers = [await post(models) for _ in range(2)]
        await models.stop()
        return answers

    answers = asyncio.run(run())

    assert [answer.status_code for answer in answers] == [503, 503]
    assert answers[0].headers["retry-after"]
    assert "secret" not in answers[0].text
    # One start, not one for each request.
    assert caplog.text.count("cannot start to serve") == 1


class Lifespan:
    """An ASGI server's part of the lifespan protocol."""

    def __init__(self, models):
        self._models = models
        self.sent = []

    async def run(self):
        messages = asyncio.Queue()
        for kind in ("startup", "shutdown"):
            messages.put_nowait({"type": f"lifespan.{kind}"})

        async def send(message):
            self.sent.append(message)

        await self._models({"type": "lifespan"}, messages.get, send)


@pytest.mark.slow
def test_the_lifespan_of_a_server_starts_and_stops_it(scorer):
    lifespan = Lifespan(asgi(scorer, replicas=1))

    asyncio.run(lifespan.run())

    assert [message["type"] for message in lifespan.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_start_that_fails_is_told_to_the_server(tmp_path):
    lifespan = Lifespan(asgi(tmp_path / "absent.onnx"))

    asyncio.run(lifespan.run())

    (message,) = lifespan.sent
    assert message["type"] == "lifespan.startup.failed"
    assert "absent.onnx" in message["message"]


def test_a_websocket_is_closed_before_it_is_accepted(scorer):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    asyncio.run(asgi(scorer)({"type": "websocket"}, receive, send))

    assert [message["type"] for message in sent] == ["websocket.close"]


def test_what_is_no_asgi_is_refused(scorer):
    with pytest.raises(UnsupportedError, match="'telegraph'"):
        asyncio.run(asgi(scorer)({"type": "telegraph"}, None, None))


@pytest.mark.slow
def test_a_key_is_asked_for_beside_whatever_the_host_asks(scorer):
    models = asgi(scorer, replicas=1, api_key="k")

    async def run():
        async with models.lifespan():
            return (await post(models)).status_code

    assert asyncio.run(run()) == 401


@pytest.mark.slow
def test_a_swap_to_what_cannot_be_loaded_is_told(scorer, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    models = asgi(scorer, replicas=1)

    async def run():
        async with models.lifespan():
            await models.swap("scorer", {"2": tmp_path / "broken.onnx"})
            with pytest.raises(ServeError, match="scorer@2"):
                await models.wait_for("scorer", 2)
            return (await post(models)).json()

    assert asyncio.run(run())["version"] == "1"


@pytest.mark.slow
def test_two_applications_may_live_in_one_loop(scorer, picker):
    first, second = asgi(scorer, replicas=1), asgi(picker, replicas=1)

    async def run():
        async with first.lifespan():
            async with second.lifespan():
                pass
            return (await post(first)).status_code

    assert asyncio.run(run()) == 200


@pytest.mark.slow
def test_it_leaves_no_files_no_descriptors_and_no_threads(scorer, tmp_path, monkeypatch):
    import tempfile
    import threading

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    process = psutil.Process()
    models = asgi(scorer, replicas=1)

    async def run():
        async with models.lifespan():
            return json.loads((await post(models)).text)["model"]

    # The first brings what stays: the thread that starts processes.
    asyncio.run(run())
    gc.collect()
    before = process.num_fds(), threading.active_count()

    assert asyncio.run(run()) == "scorer"

    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert process.num_fds() <= before[0]
    assert threading.active_count() <= before[1]
