from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import CorruptError, UnsupportedError, decode, encode
from shoal.train.saving.trees import flatten, rebuild

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=20),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text('abc$"', max_size=5), st.integers(-3, 3)), inner, max_size=4),
    ),
    max_leaves=20,
)


def there_and_back(value):
    tensors = []
    skeleton = flatten(value, tensors, "value")
    return rebuild(decode(encode(skeleton)), tensors)


@given(VALUES)
def test_plain_values_come_back_with_their_types(value):
    again = there_and_back(value)

    assert again == value
    assert repr(again) == repr(value)


def test_a_dict_keeps_its_order_and_a_counter_its_type():
    assert list(there_and_back(OrderedDict(b=1, a=2))) == ["b", "a"]
    again = there_and_back({"milestones": Counter([3, 3, 5])})["milestones"]
    assert type(again) is Counter
    assert again == Counter({3: 2, 5: 1})


def test_numbers_that_json_cannot_say_come_back():
    again = there_and_back([float("inf"), float("-inf"), float("nan"), -0.0])

    assert again[:2] == [float("inf"), float("-inf")]
    assert np.isnan(again[2])
    assert np.signbit(again[3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.float8_e4m3fn])
def test_tensors_come_back_as_they_are(dtype):
    tensor = torch.tensor([[0.0, 1.0], [2.0, 0.5]]).to(dtype)

    again = there_and_back({"x": [tensor, torch.nn.Parameter(torch.ones(2))]})["x"]

    assert again[0].dtype == dtype
    assert torch.equal(again[0].view(torch.uint8), tensor.view(torch.uint8))
    assert torch.equal(again[1], torch.ones(2))


def test_what_numpy_has_comes_back_as_numpy():
    scalar, array = there_and_back((np.float64(0.1), np.arange(6).reshape(2, 3).T))

    assert type(scalar) is np.float64
    assert scalar == 0.1
    assert np.array_equal(array, np.arange(6).reshape(2, 3).T)


@pytest.mark.parametrize("value", [Path("x"), torch.float32, object(), np.array(["a"]), len])
def test_what_is_not_plain_is_named_with_its_place(value):
    with pytest.raises(UnsupportedError, match=rf"state\.extras\.a\[1\].*{type(value).__name__}"):
        flatten({"extras": {"a": [1, value]}}, [], "state")


@pytest.mark.parametrize(
    "skeleton", [{}, {"$tensor": 7}, {"$who": 1}, {"$dict": [1]}, {"$dict": [[[], 1]]}, {"a": 1, "b": 2}, {"$int": "x"}]
)
def test_what_no_value_is_written_as_is_refused(skeleton):
    with pytest.raises(CorruptError):
        rebuild(skeleton, [])
