import json

import pytest

from shoal.serve.desk import describe
from shoal.serve.links.channel import Key
from shoal.serve.links.messages import Problem


def test_metadata_has_the_protocols_words(house):
    found = describe.model_metadata(house.served, ["1"])

    assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 2]}]
    assert found["outputs"] == [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]
    assert found["versions"] == ["1"]


def test_the_index_says_what_is_ready(house):
    (before,) = describe.index(house.models, house.dispatcher)
    house.link(1)
    (after,) = describe.index(house.models, house.dispatcher)

    assert (before["state"], after["state"]) == ("UNAVAILABLE", "READY")
    assert before["reason"]


def test_ready_needs_every_version_that_gets_traffic(house):
    house.link(1)
    assert describe.is_ready(house.models, house.dispatcher, "m")

    house.dispatcher.links[1].loaded.clear()

    assert not describe.is_ready(house.models, house.dispatcher, "m")
    assert not describe.is_ready(house.models, house.dispatcher, "unknown")


def test_the_status_explains_itself_and_is_json(house):
    house.link(1)
    problems = [Problem("m", "2", "broken", "mend it")]

    answer = describe.json_response(
        200, describe.status(house.models, house.dispatcher, house.journal, problems, ready=True)
    )

    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert found["models"]["m"]["versions"]["1"]["rows_per_batch_at_most"] == 5
    assert found["problems"][0]["next_step"] == "mend it"
    assert found["replicas"][0]["loaded"] == ["m@1"]


def test_gauges_count_only_replicas_that_can_work(house):
    house.link(1)
    house.link(2).loaded.clear()

    gauges = describe.gauges(house.models, house.dispatcher, ready=True)

    assert gauges.replicas == 1
    assert gauges.shares == {Key("m", "1"): pytest.approx(1.0)}
