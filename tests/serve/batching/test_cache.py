import json
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.serve.batching.cache import NotedCall, PredictionCache
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.protocol import InferCall, Protocol
from shoal.serve.wire.refusal import RefusedError

LEAST = 4 << 10
ONE, TWO = 1, 2


@pytest.fixture
def cache():
    return PredictionCache(LEAST)


@pytest.fixture
def protocol(interface):
    return Protocol(interface)


def image(*pixels):
    return np.array(pixels, np.uint8).reshape(-1, 2, 2)


def outputs(value, rows=1):
    return [np.full((rows, 3), value, np.float32)]


def body_of(*pixels, **members):
    shape = [len(pixels) // 4, 2, 2]
    tensor = {"name": "image", "datatype": "UINT8", "shape": shape, "data": list(pixels)}
    return json.dumps({"inputs": [tensor], **members}).encode()


def test_the_same_inputs_find_what_was_kept_for_them(cache):
    cache.keep(ONE, cache.digest([image(1, 2, 3, 4)]), outputs(5))

    (found,) = cache.find(ONE, cache.digest([image(1, 2, 3, 4)]))

    np.testing.assert_array_equal(found, outputs(5)[0])


def test_other_inputs_and_other_versions_find_nothing(cache):
    digest = cache.digest([image(1, 2, 3, 4)])
    cache.keep(ONE, digest, outputs(5))

    assert cache.find(ONE, cache.digest([image(1, 2, 3, 5)])) is None
    assert cache.find(TWO, digest) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([np.zeros((1, 4), np.uint8)], [np.zeros((4, 1), np.uint8)]),
        ([np.zeros(4, np.uint8)], [np.zeros(1, np.uint32)]),
        ([np.zeros(4, np.int32)], [np.zeros(4, np.float32)]),
        ([np.array(["ab"])], [np.array(["a", "b"])]),
        ([np.zeros(2), np.zeros(1)], [np.zeros(1), np.zeros(2)]),
        ([np.zeros(0)], [np.zeros((0, 3))]),
    ],
)
def test_equal_bytes_of_other_meaning_are_other_inputs(cache, first, second):
    assert cache.digest(first) != cache.digest(second)


def test_how_an_array_lies_in_memory_does_not_matter(cache):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)

    assert cache.digest([np.asfortranarray(array)]) == cache.digest([array])


def test_arrays_of_references_have_no_digest(cache):
    assert cache.digest([np.array(["a", None], dtype=object)]) is None


def test_another_process_names_inputs_otherwise(cache):
    assert PredictionCache(LEAST).digest([image(1, 2, 3, 4)]) != cache.digest([image(1, 2, 3, 4)])


def test_what_is_kept_does_not_change_with_the_batch_that_it_came_from(cache):
    batch = outputs(5, rows=8)
    cache.keep(ONE, b"key", [batch[0][2:3]])

    batch[0][:] = -1

    assert cache.find(ONE, b"key")[0].tolist() == [[5, 5, 5]]


def test_what_was_used_longest_ago_makes_room_over_all_versions(cache):
    large = [np.zeros(800, np.uint8)]
    for serial, key in ((ONE, b"a"), (TWO, b"b"), (ONE, b"c")):
        cache.keep(serial, key, large)
    cache.find(ONE, b"a")

    cache.keep(TWO, b"d", large)

    assert cache.find(TWO, b"b") is None
    assert all(cache.find(serial, key) for serial, key in ((ONE, b"a"), (ONE, b"c"), (TWO, b"d")))
    assert (len(cache), cache.num_evicted) == (3, 1)


def test_what_is_larger_than_the_cache_is_not_kept_and_drops_nothing(cache):
    cache.keep(ONE, b"a", outputs(1))

    cache.keep(ONE, b"b", [np.zeros(LEAST, np.uint8)])

    assert cache.find(ONE, b"b") is None
    assert cache.find(ONE, b"a")


def test_a_version_that_goes_takes_its_entries_along(cache, protocol):
    cache.keep(ONE, b"a", outputs(1))
    cache.keep(TWO, b"a", outputs(2))
    cache.read(protocol, body_of(1, 2, 3, 4), None)
    before = cache.num_bytes

    cache.forget({TWO}, set())

    assert cache.find(ONE, b"a") is None
    assert cache.find(TWO, b"a")[0][0, 0] == 2
    assert 0 < cache.num_bytes < before
    cache.forget(set(), set())
    assert cache.num_bytes == 0


@pytest.mark.parametrize("most_bytes", [-1, 1, LEAST - 1])
def test_a_cache_without_room_is_refused(most_bytes):
    with pytest.raises(ConfigError, match="prediction_cache_bytes"):
        PredictionCache(most_bytes)


def test_bytes_that_were_decoded_are_known_again(cache, protocol):
    body = body_of(1, 2, 3, 4, id="mine", outputs=[{"name": "scores", "parameters": {"binary_data": True}}])
    first = cache.read(protocol, body, None)

    again = cache.read(protocol, body, None)

    assert isinstance(again, NotedCall)
    assert (again.id, again.num_rows, again.wishes, again.digest) == ("mine", 1, ((0, True),), first.digest)
    np.testing.assert_array_equal(again.arrays[0], image(1, 2, 3, 4))


def test_the_same_inputs_in_other_words_have_one_digest(cache, protocol):
    plain = cache.read(protocol, body_of(1, 2, 3, 4), None)
    other = cache.read(protocol, body_of(1, 2, 3, 4, id="other").replace(b" ", b"  "), None)

    assert plain.digest == other.digest
    assert other.id == "other"


def test_a_note_is_for_one_protocol_alone(cache, protocol, interface):
    body = body_of(1, 2, 3, 4)
    cache.read(protocol, body, None)
    other = Protocol(Interface((TensorField("picture", "UINT8", (None, 2, 2)),), interface.outputs, batched=True))

    with pytest.raises(RefusedError, match="picture"):
        cache.read(other, body, None)


@pytest.mark.parametrize("body", [b"", b"{", b'{"inputs": []}'])
def test_what_is_refused_is_refused_again(cache, protocol, body):
    for _ in range(2):
        with pytest.raises(RefusedError):
            cache.read(protocol, body, None)

    assert cache.num_bytes == 0


def test_what_its_author_could_make_long_is_not_noted(cache, protocol):
    bodies = [body_of(1, 2, 3, 4, id="x" * 65)]

    assert all(isinstance(cache.read(protocol, body, None), InferCall) for body in bodies for _ in range(2))
    assert cache.num_bytes == 0


def test_binary_bodies_are_decoded_each_time(cache, protocol):
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "parameters": {"binary_data_size": 4}}
    text = json.dumps({"inputs": [tensor]}).encode()

    call = cache.read(protocol, text + b"\1\2\3\4", len(text))

    assert isinstance(call, InferCall)
    assert cache.digest(call.arrays) == cache.digest([image(1, 2, 3, 4)])


STEPS = st.one_of(
    st.tuples(st.just("keep"), st.integers(0, 2), st.integers(0, 12), st.integers(1, 1_500)),
    st.tuples(st.just("find"), st.integers(0, 2), st.integers(0, 12), st.just(0)),
    st.tuples(st.just("forget"), st.integers(0, 2), st.just(0), st.just(0)),
)


@given(st.lists(STEPS, max_size=60))
def test_it_is_a_bounded_map_that_drops_the_least_recently_used(steps):
    cache = PredictionCache(LEAST)
    model: OrderedDict = OrderedDict()

    for step, serial, number, size in steps:
        key = b"%d" % number
        if step == "keep":
            cache.keep(serial, key, [np.full(size, number, np.uint8)])
            model.setdefault((serial, key), size)
            while sum(550 + each for each in model.values()) > LEAST:
                model.popitem(last=False)
        elif step == "find":
            found = cache.find(serial, key)
            assert (found is not None) == ((serial, key) in model)
            if found is not None:
                assert found[0].tolist() == [number] * model[serial, key]
                model.move_to_end((serial, key))
        else:
            cache.forget({0, 1, 2} - {serial}, set())
            model = OrderedDict((name, each) for name, each in model.items() if name[0] != serial)

        assert cache.num_bytes == sum(550 + each for each in model.values()) <= LEAST
        assert len(cache) == len(model)
