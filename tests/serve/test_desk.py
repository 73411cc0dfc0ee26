import asyncio
import json

import pytest

from shoal.serve.channel import Loaded
from shoal.serve.http import Head
from shoal.serve.refusal import RefusedError
from shoal.serve.router import Shares


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
