import asyncio
import io
import json
import time

import pytest

from shoal.serve.desk.connection import Exchange
from shoal.serve.desk.wishes import Wishes
from shoal.serve.links.channel import Loaded
from shoal.serve.links.messages import WishDone
from shoal.serve.versions.router import Shares
from shoal.serve.wire.http import Head
from shoal.serve.wire.images import import_pillow
from shoal.serve.wire.refusal import RefusedError


def head(method, path, **headers):
    kept = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Head(method, path, kept, keeps_alive=True, is_old=False)


def status_of(desk, *arguments, **headers):
    with pytest.raises(RefusedError) as caught:
        desk.admit(head(*arguments, **headers))
    return caught.value.status


@pytest.mark.parametrize("path", ["/v2", "/metrics", "/status", "/v2/models/m", "/nowhere"])
def test_without_the_key_nothing_is_told_not_even_what_exists(build_house, path):
    assert status_of(build_house(key="k").desk, "GET", path) == 401


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_needs_no_key(build_house, path):
    build_house(key="k").desk.admit(head("GET", path))


def test_an_unknown_model_is_refused_before_its_body_is_read(house):
    assert status_of(house.desk, "POST", "/v2/models/n/infer") == 404


def test_a_compressed_body_is_refused(house):
    assert status_of(house.desk, "POST", "/v2/models/m/infer", content_encoding="gzip") == 415


def test_a_draining_server_refuses_new_work_and_says_it_is_not_ready(house):
    house.link(1)
    assert house.desk.is_ready

    house.desk.is_draining = True

    assert status_of(house.desk, "POST", "/v2/models/m/infer") == 503
    assert house.ask(b"", path="/v2/health/ready", method="GET").answered_status == 503
    assert house.ask(b"", path="/v2/health/live", method="GET").answered_status == 200


def test_ready_is_only_who_can_answer(house):
    assert not house.desk.is_ready

    house.link(1)

    assert house.desk.is_ready
    assert house.ask(b"", path="/v2/models/m/ready", method="GET").answered_status == 200


def test_the_clients_id_comes_back_and_chooses_the_version(house, image_request, interface):
    async def ask():
        house.models.plan["m"].versions["2"] = "/2"
        house.models.add(Loaded("m", "2", "/2", interface, [(1, 0.001)], "classification"))
        house.models.shares["m"] = Shares.of({"1": 0.5, "2": 0.5})
        for number in range(15):
            house.ask(image_request | {"id": f"id{number % 5}"})
        return dict(house.dispatcher.queue.rows_by_key())

    rows = asyncio.run(ask())

    assert len(rows) == 2
    assert all(count % 3 == 0 for count in rows.values())


def ask(house, path, body=b"", method="POST", kind=None, query=""):
    """An exchange with headers and a query, which the house's own `ask` has not."""
    exchange = Exchange(
        FakeConnection(), head(method, path, **({"content_type": kind} if kind else {})), time.monotonic()
    )
    exchange.head.query = query
    house.desk.admit(exchange.head)
    house.desk.take(exchange, body)
    return exchange


class FakeConnection:
    buffered_bytes = 0

    def flush(self): ...


def body_of(exchange):
    return json.loads(exchange.answered.partition(b"\r\n\r\n")[2])


async def computed(house, link, exchange):
    """The body of an answer, after the one replica has run what waits."""
    while link.batch is None:
        await asyncio.sleep(0.001)
    house.dispatcher.on_done(link, link.compute())
    return body_of(exchange)


@pytest.mark.parametrize("path", ["/predict", "/v2/models/m/predict", "/v2/models/m/versions/1/predict"])
def test_plain_json_is_answered_by_name(house, path):
    async def scene():
        link = house.link(1)
        return await computed(house, link, ask(house, path, b'{"image": [[1, 2], [3, 4]]}'))

    answer = asyncio.run(scene())

    assert (answer["model"], answer["version"], answer["scores"]) == ("m", "1", [10.0, 10.0, 10.0])
    assert answer["prediction_id"].startswith("m@1.")


def test_a_small_picture_is_decoded_at_once_and_a_large_one_beside_the_loop(house):
    image = pytest.importorskip("PIL.Image")
    import_pillow()

    def png(size):
        sink = io.BytesIO()
        image.new("L", size, 5).save(sink, "PNG")
        return sink.getvalue()

    async def scene():
        link = house.link(1)
        small = ask(house, "/predict", png((2, 2)), kind="image/png")
        num_open = house.dispatcher.num_open
        first = await computed(house, link, small)
        large = ask(house, "/predict", png((300, 300)), kind="image/png", query="resize=true")
        held = house.desk._decoding.num_bytes
        return num_open, first, held, await computed(house, link, large), house.desk._decoding.num_bytes

    num_open, first, held, second, left = asyncio.run(scene())

    assert num_open == 1
    assert first["scores"] == second["scores"] == [20.0, 20.0, 20.0]
    assert (held > 0, left) == (True, 0)


def test_a_version_that_was_replaced_while_its_picture_was_decoded_is_503(house):
    image = pytest.importorskip("PIL.Image")
    import_pillow()
    sink = io.BytesIO()
    image.new("L", (300, 300)).save(sink, "PNG")

    async def scene():
        exchange = ask(house, "/predict", sink.getvalue(), kind="image/png", query="resize=true")
        house.models.forget(set())
        while exchange.answered is None:
            await asyncio.sleep(0.001)
        return exchange

    assert asyncio.run(scene()).answered_status == 503


def test_a_body_that_predict_does_not_take_is_refused_from_its_head(house):
    assert status_of(house.desk, "POST", "/predict", content_type="image/gif") == 415
    assert status_of(house.desk, "POST", "/v2/models/n/predict") == 404


def test_a_draining_server_predicts_no_more(house):
    house.desk.is_draining = True

    assert status_of(house.desk, "POST", "/predict") == 503


def test_what_tells_about_the_server_is_answered(house):
    house.link(1)

    assert body_of(ask(house, "/openapi.json", method="GET"))["openapi"] == "3.1.0"
    page = ask(house, "/docs", method="GET").answered
    assert b"text/html" in page
    assert b"Content-Security-Policy: default-src 'none'" in page
    assert body_of(ask(house, "/v2/models/m/config", method="GET"))["name"] == "m"
    for path in ("/v2/models/m/stats", "/v2/models/m/versions/1/stats", "/v2/models/stats"):
        (counts,) = body_of(ask(house, path, method="GET"))["model_stats"]
        assert (counts["name"], counts["inference_count"]) == ("m", 0)


def test_the_index_tells_all_or_what_is_ready(house):
    assert [entry["state"] for entry in body_of(ask(house, "/v2/repository/index"))] == ["UNAVAILABLE"]
    assert body_of(ask(house, "/v2/repository/index", b'{"ready": true}')) == []

    house.link(1)

    assert len(body_of(ask(house, "/v2/repository/index", b'{"ready": true}'))) == 1


@pytest.mark.parametrize("action", ["load", "unload"])
def test_loading_at_a_clients_wish_is_refused_with_the_reason(house, action):
    with pytest.raises(RefusedError, match="loads and unloads no models") as caught:
        ask(house, f"/v2/repository/models/m/{action}")

    assert caught.value.status == 405


def test_the_statistics_of_what_is_not_there_are_404(house):
    for path in ("/v2/models/n/stats", "/v2/models/m/versions/9/stats"):
        with pytest.raises(RefusedError) as caught:
            ask(house, path, method="GET")
        assert caught.value.status == 404


def test_an_id_that_is_missing_is_made_up(house, image_request):
    async def ask():
        link = house.link(1)
        exchanges = [house.ask(image_request) for _ in range(2)]
        await asyncio.sleep(0)
        house.dispatcher.on_done(link, link.compute())
        return [json.loads(exchange.answered.partition(b"\r\n\r\n")[2])["id"] for exchange in exchanges]

    first, second = asyncio.run(ask())

    assert first
    assert second not in ("", first)


def fill(house, image_request, num_rows):
    """Let rows of the default level wait, each for 0.1 s of the one replica, which is returned."""

    async def ask():
        for _ in range(num_rows):
            house.ask(image_request)

    asyncio.run(ask())
    house.dispatcher._speed.note_cost(house.served.key, 0.1)
    return house.link(1)


def test_a_full_house_lets_in_what_names_a_higher_level(house, image_request):
    link = fill(house, image_request, 15)

    async def ask(**members):
        return house.ask({**image_request, **members})

    for members in ({}, {"parameters": {"priority": 0}}, {"parameters": {"priority": 4}}):
        with pytest.raises(RefusedError, match="it would wait"):
            asyncio.run(ask(**members))
    urgent = asyncio.run(ask(parameters={"priority": 1}))

    assert link.batch.requests[0].exchange is urgent


def test_a_full_house_refuses_before_it_parses(house, image_request):
    fill(house, image_request, 15)

    with pytest.raises(RefusedError) as caught:
        house.ask(b"{")

    assert caught.value.status == 503


def test_headers_say_how_urgent_a_request_is(house, image_request):
    fill(house, image_request, 15)

    assert status_of(house.desk, "POST", "/v2/models/m/infer", x_priority="3") == 503
    assert status_of(house.desk, "POST", "/v2/models/m/infer", x_priority="1", x_timeout_us="nine") == 400
    house.desk.admit(head("POST", "/v2/models/m/infer", x_priority="1"))


def test_a_large_body_must_name_its_level_in_the_head(house, image_request):
    fill(house, image_request, 15)

    assert status_of(house.desk, "POST", "/v2/models/m/infer", content_length="70000") == 503


def test_a_timeout_becomes_the_deadline(house, image_request):
    async def ask():
        exchange = house.ask(image_request | {"parameters": {"timeout": 5_000_000}})
        return exchange, house.dispatcher.queue.next_deadline_s()

    exchange, deadline_s = asyncio.run(ask())

    assert deadline_s == exchange.started_s + 5


@pytest.mark.parametrize("parameters", [{"priority": 6}, {"priority": "1"}, {"timeout": -1}])
def test_a_wrong_parameter_is_a_400(house, image_request, parameters):
    with pytest.raises(RefusedError, match="parameters") as caught:
        house.ask(image_request | {"parameters": parameters})

    assert caught.value.status == 400


def test_status_tells_of_batches_and_of_the_cache(house):
    found = json.loads(house.ask(b"", path="/status", method="GET").answered.partition(b"\r\n\r\n")[2])

    assert found["cache"] is None
    assert found["models"]["m"]["versions"]["1"]["batches"]["count"] == 0
    assert found["models"]["m"]["versions"]["1"]["time_ms"]["queue"] == 0


@pytest.fixture
def wishes(house):
    """What the desk sends to the supervisor, who never answers by itself."""
    sent = []
    house.desk.wishes = Wishes(sent.append)
    return sent


def test_a_wish_is_answered_when_the_supervisor_says_so(house, wishes):
    load, unload = (house.ask(b"", path=f"/v2/repository/models/m/{action}") for action in ("load", "unload"))
    before = (load.answered, unload.answered)
    house.desk.wishes.on_done(WishDone(wishes[0].id, 200))
    house.desk.wishes.on_done(WishDone(wishes[1].id, 404, "there is no model", "look"))

    assert before == (None, None)
    assert (load.answered_status, body_of(load)) == (200, {})
    assert (unload.answered_status, body_of(unload)["field"]) == (404, "path")


def test_no_wish_is_taken_without_the_key(build_house):
    house = build_house(key="secret")
    house.desk.wishes = Wishes(lambda _: None)

    with pytest.raises(RefusedError) as caught:
        house.ask(b"", path="/v2/repository/models/m/unload")

    assert caught.value.status == 401


def test_no_wish_is_taken_by_a_server_that_stops(house, wishes):
    house.desk.is_draining = True

    with pytest.raises(RefusedError) as caught:
        house.ask(b"", path="/v2/repository/models/m/load")

    assert caught.value.status == 503
    assert wishes == []


def test_a_path_without_a_name_does_not_mean_another_model_while_its_own_is_unloaded(house):
    house.models.default = "unloaded"

    with pytest.raises(RefusedError, match="there is no model 'unloaded'"):
        house.ask({"image": [[1, 2], [3, 4]]}, path="/predict")
