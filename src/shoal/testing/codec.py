"""What every codec must keep."""

import io
from collections.abc import Sequence

import numpy as np
import pytest

from shoal.base import Codec, codec_for, codec_named


def assert_same(left: object, right: object) -> None:
    """Fail unless both are equal with all their types, arrays bit by bit."""
    assert type(left) is type(right), f"{type(left)} became {type(right)}"
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, dict) and isinstance(right, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif type(left) is float:
        # As text: tells -0.0 from 0.0, and takes every NaN for the same.
        assert repr(left) == repr(right)
    elif isinstance(left, np.generic) and isinstance(right, np.generic):
        assert left.tobytes() == right.tobytes()
    else:
        assert left == right


class CodecContract:
    """The suite for a `Codec`: subclass it and give fixtures `codec` and `values`, the latter with what it accepts."""

    @pytest.fixture
    def codec(self) -> Codec:
        """Return the codec under test, registered."""
        raise NotImplementedError

    @pytest.fixture
    def values(self) -> Sequence[object]:
        """Return values that this codec is chosen for, odd ones included."""
        raise NotImplementedError

    def test_is_found_by_its_name(self, codec: Codec) -> None:
        """The name stored beside the bytes finds the codec."""
        assert type(codec_named(codec.name)) is type(codec)

    def test_is_chosen_for_its_values(self, codec: Codec, values: Sequence[object]) -> None:
        """Each of its values picks this codec."""
        assert [codec_for(value).name for value in values] == [codec.name] * len(values)

    def test_values_come_back_with_their_types(self, codec: Codec, values: Sequence[object]) -> None:
        """What is read equals what was written, types and bits included."""
        for value in values:
            sink = io.BytesIO()

            codec.encode(value, sink)

            assert_same(value, codec.decode(io.BytesIO(sink.getvalue())))

    def test_same_value_gives_same_bytes(self, codec: Codec, values: Sequence[object]) -> None:
        """Encoding is deterministic, so that equal results share one artifact."""
        for value in values:
            first, second = io.BytesIO(), io.BytesIO()

            codec.encode(value, first)
            codec.encode(value, second)

            assert first.getvalue() == second.getvalue()

    def test_sink_stays_open(self, codec: Codec, values: Sequence[object]) -> None:
        """The caller owns the sink and may write on."""
        sink = io.BytesIO()

        codec.encode(values[0], sink)

        assert not sink.closed
