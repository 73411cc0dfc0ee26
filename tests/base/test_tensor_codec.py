import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shoal.base import Codec, CorruptError, File, UnsupportedError, codec_for, codec_named
from shoal.base.tensor_codec import TensorCodec, TreeCodec
from shoal.testing import CodecContract
from shoal.testing.codec import assert_same


class TestTensorCodec(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return TensorCodec()

    @pytest.fixture
    def values(self) -> Sequence[object]:
        grid = np.arange(12, dtype=np.float32).reshape(3, 4)
        return [
            {"a": grid},
            {"turned": grid.T, "strided": grid[:, ::2]},
            {"number": np.asarray(3.5), "none": np.empty((0, 4), np.int64)},
            {"mask": np.array([True, False]), "half": np.float16([1, math.nan]), "bytes": np.uint8([0, 255])},
        ]

    def test_dtype_without_a_name_is_refused_with_its_key(self, codec: Codec):
        with pytest.raises(UnsupportedError, match="'when'"):
            codec.encode({"when": np.array(["2026-01-01"], "datetime64[s]")}, io.BytesIO())

    def test_damaged_bytes_are_corrupt(self, codec: Codec):
        with pytest.raises(CorruptError, match="safetensors"):
            codec.decode(io.BytesIO(b"\xff" * 100))


class TestTreeCodec(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return TreeCodec()

    @pytest.fixture
    def values(self, tmp_path: Path) -> Sequence[object]:
        (tmp_path / "f").write_text("content")
        return [
            (1, "two", None),
            ((), [()], {"nested": ({"deep": (True,)},)}),
            {"loss": math.nan, "best": -math.inf, "zero": (-0.0,)},
            {1: "one", (2, 3): "pair", None: 0},
            {"$tuple": [1], "$handle": "no handle"},
            2**80,
            [b"raw", b""],
            {"weights": [np.arange(3), np.zeros((2, 2))], "name": "cnn", "file": File(tmp_path / "f")},
            np.arange(4, dtype=np.int16),
            [np.float32(1.5), np.int64(-3), np.bool_(True), np.float64(math.nan)],
        ]

    def test_dict_order_is_kept(self, codec: Codec):
        sink = io.BytesIO()
        codec.encode({"b": (1,), "a": (2,)}, sink)
        sink.seek(0)

        assert list(codec.decode(sink)) == ["b", "a"]


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | npst.arrays(
        npst.integer_dtypes(endianness="=") | npst.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
        npst.array_shapes(min_side=0),
    )
)
KEYS = st.text() | st.integers() | st.booleans()
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner), max_leaves=8
)


@settings(max_examples=30, deadline=None)
@given(TREES)
def test_any_tree_comes_back_through_the_chosen_codec(value: object):
    codec = codec_for(value)
    sink = io.BytesIO()

    codec.encode(value, sink)

    assert_same(value, codec_named(codec.name).decode(io.BytesIO(sink.getvalue())))
