import json

from shoal.serve.wire.refusal import RefusedError, our_mistake, shorten, wrong_field


def test_the_body_has_the_protocols_error_and_the_parts():
    refused = wrong_field("inputs.image.datatype", found="'FP32'", expected="'UINT8'")

    body = json.loads(refused.body())

    assert refused.status == 400
    assert body["error"] == "inputs.image.datatype: found 'FP32', expected 'UINT8'"
    assert (body["field"], body["found"], body["expected"]) == ("inputs.image.datatype", "'FP32'", "'UINT8'")
    assert body["next"]


def test_absent_parts_are_left_out():
    body = json.loads(RefusedError(503, "busy", next_step="wait").body())

    assert body == {"error": "busy", "status": "503 Service Unavailable", "next": "wait"}


def test_a_megabyte_that_was_found_is_cut():
    assert len(shorten("x" * 1_000_000)) < 200


def test_half_a_surrogate_pair_can_be_told():
    json.loads(wrong_field("x", found="\ud800", expected="text").body())


def test_our_own_mistake_is_a_500():
    assert our_mistake().status == 500
