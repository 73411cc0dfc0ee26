import pytest

from shoal.serve.desk.extensions import (
    check_wish,
    check_wish_parameters,
    model_config,
    model_statistics,
    no_repository,
    read_index_body,
)
from shoal.serve.links.channel import Key
from shoal.serve.records.metrics import VersionCounts
from shoal.serve.versions.models import ServedVersion
from shoal.serve.wire.http import Head
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.protocol import Protocol
from shoal.serve.wire.refusal import RefusedError


def served(*, batched=True):
    rows = None if batched else 1
    interface = Interface(
        (TensorField("image", "UINT8", (rows, 2, None)), TensorField("city", "BYTES", (rows,))),
        (TensorField("scores", "FP32", (rows, 3)),),
        batched=batched,
    )
    return ServedVersion(Key("m", "7"), Protocol(interface), cost=None, model_kind="unknown")


def test_the_configuration_leaves_rows_out_where_it_batches():
    config = model_config(served(), 64)

    assert (config["name"], config["max_batch_size"]) == ("m", 64)
    assert config["input"] == [
        {"name": "image", "data_type": "TYPE_UINT8", "dims": [2, -1]},
        {"name": "city", "data_type": "TYPE_STRING", "dims": []},
    ]
    assert config["output"] == [{"name": "scores", "data_type": "TYPE_FP32", "dims": [3]}]
    assert config["version_policy"] == {"specific": {"versions": ["7"]}}


def test_a_model_for_one_row_has_no_batch_size_and_all_its_dimensions():
    config = model_config(served(batched=False), 64)

    assert config["max_batch_size"] == 0
    assert config["output"][0]["dims"] == [1, 3]


def test_statistics_are_what_was_counted():
    counts = VersionCounts(rows=5)
    for histogram, values in ((counts.batch_rows, [2, 3]), (counts.batch_seconds, [0.5, 0.25])):
        for value in values:
            histogram.observe(value)
    counts.request_seconds.observe(2.0)

    found = model_statistics(served(), counts)

    assert (found["name"], found["version"]) == ("m", "7")
    assert (found["inference_count"], found["execution_count"]) == (5, 2)
    assert found["inference_stats"]["success"] == {"count": 1, "ns": 2_000_000_000}
    assert found["inference_stats"]["compute_infer"] == {"count": 2, "ns": 750_000_000}


@pytest.mark.parametrize(("body", "ready"), [(b"", False), (b" \n", False), (b"{}", False), (b'{"ready": true}', True)])
def test_the_index_is_asked_for_all_or_what_is_ready(body, ready):
    assert read_index_body(body).ready is ready


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"ready": 1}', b'{"redy": true}', b"\xff", b"null"])
def test_a_wrong_wish_for_the_index_is_refused(body):
    with pytest.raises(RefusedError) as caught:
        read_index_body(body)

    assert (caught.value.status, caught.value.field) == (400, "body")


def test_loading_is_refused_with_the_reason_and_no_method_is_right():
    refused = no_repository("load", "m")

    assert (refused.status, refused.allow) == (405, "")
    assert "loads and unloads no models" in refused.message


def head(**headers):
    return Head("POST", "/", {name.encode(): value.encode() for name, value in headers.items()}, True, False)


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{}", b'{"parameters": {}}', b'{"parameters": {"unload_dependents": true}}']
)
def test_a_wish_may_come_without_a_body_or_with_what_changes_nothing(body):
    check_wish(head(host="here:80"), body)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"[]", "body"),
        (b"{", "body"),
        (b'{"parameters": null}', "body"),
        (b'{"config": "{}"}', "body"),
        (b"\xff", "body"),
        (b"[" * 50_000, "body"),
        (b'{"parameters": {"config": "{}"}}', "parameters.config"),
        (b'{"parameters": {"file:1/model.onnx": "AA=="}}', "parameters.file:1/model.onnx"),
    ],
)
def test_a_wish_with_files_or_settings_of_its_own_is_refused(body, field):
    with pytest.raises(RefusedError) as caught:
        check_wish(head(host="here:80"), body)

    assert (caught.value.status, caught.value.field) == (400, field)


@pytest.mark.parametrize("origin", ["http://here:80", "https://here:80"])
def test_the_server_s_own_page_may_load_and_unload(origin):
    check_wish(head(host="here:80", origin=origin), b"")


@pytest.mark.parametrize("origin", ["http://elsewhere", "http://here:81", "null", ""])
def test_another_site_s_page_may_not_load_and_unload(origin):
    with pytest.raises(RefusedError, match="Origin") as caught:
        check_wish(head(host="here:80", origin=origin), b"")

    assert caught.value.status == 403


def test_names_of_parameters_are_checked_alone():
    check_wish_parameters(["unload_dependents"])
    with pytest.raises(RefusedError, match=r"parameters\.config"):
        check_wish_parameters(["unload_dependents", "config"])
