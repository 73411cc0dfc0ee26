import io
import math
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import (
    Codec,
    ConfigError,
    File,
    NotFoundError,
    UnsupportedError,
    codec_for,
    codec_named,
    register_codec,
)
from shoal.base import (
    codec as codec_module,
)
from shoal.base.codec import ArrowCodec, BytesCodec, JsonCodec
from shoal.testing import CodecContract

Pair = namedtuple("Pair", "x y")


class TestBytesCodec(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return BytesCodec()

    @pytest.fixture
    def values(self) -> Sequence[object]:
        return [b"", b"\x00\xff", b"x" * 100_000]


class TestJsonCodec(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return JsonCodec()

    @pytest.fixture
    def values(self, tmp_path: Path) -> Sequence[object]:
        (tmp_path / "f").write_text("content")
        file = File(tmp_path / "f")
        return [
            None,
            True,
            3,
            -1.5,
            "é",
            [],
            {},
            {"b": [1, {"c": None}], "a": 2.0},
            2**63,
            file,
            {"files": [file, file]},
        ]

    def test_dict_order_is_kept(self, codec: Codec):
        sink = io.BytesIO()

        codec.encode({"b": 1, "a": 2}, sink)
        sink.seek(0)

        assert list(codec.decode(sink)) == ["b", "a"]


class TestArrowCodec(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return ArrowCodec()

    @pytest.fixture
    def values(self) -> Sequence[object]:
        batch = pa.record_batch({"x": [1, None, 3], "s": ["a", "b", "c"]})
        marked = batch.replace_schema_metadata({b"shoal": b"{}"})
        return [
            pa.Table.from_batches([batch, batch]),
            pa.Table.from_batches([], schema=batch.schema),
            batch,
            marked,
            batch.slice(1, 1),
            batch.slice(0, 0),
        ]

    def test_plain_arrow_reads_it(self, codec: Codec):
        sink = io.BytesIO()
        codec.encode(pa.table({"x": [1, 2]}), sink)

        assert pa.ipc.open_stream(sink.getvalue()).read_all().to_pydict() == {"x": [1, 2]}

    def test_schema_metadata_is_kept(self, codec: Codec):
        sink = io.BytesIO()
        batch = pa.record_batch({"x": [1]}).replace_schema_metadata({b"k": b"v"})
        codec.encode(batch, sink)
        sink.seek(0)

        assert codec.decode(sink).schema.metadata == {b"k": b"v"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ((1, 2), "tree"),
        (math.nan, "tree"),
        ({"$x": 1}, "tree"),
        ({1: 2}, "tree"),
        ({"w": np.zeros(2)}, "safetensors"),
        ({"w": [np.zeros(2)]}, "tree"),
        (np.float64(1.0), "tree"),
    ],
)
def test_codec_is_chosen_so_that_no_type_is_lost(value: object, name: str):
    assert codec_for(value).name == name


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda: 1, Pair(1, 2), [Pair(1, 2)], np.array(["text"]), 1j])
def test_value_that_nothing_keeps_is_refused(value: object):
    with pytest.raises(UnsupportedError, match=r"next: return plain values.*register_codec"):
        codec_for(value)


def test_unknown_name_lists_the_known():
    with pytest.raises(NotFoundError, match="'json', 'safetensors'"):
        codec_named("pickle")


def test_registered_codec_gets_what_the_others_refuse(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(codec_module, "_codecs", dict(codec_module._codecs))

    class ComplexCodec:
        name = "complex"

        def encode(self, value: object, sink: io.BytesIO) -> None:
            sink.write(repr(value).encode())

        def decode(self, source: io.BytesIO) -> object:
            return complex(source.read().decode())

    register_codec(ComplexCodec(), lambda value: isinstance(value, complex))

    assert codec_for(1j).name == "complex"
    with pytest.raises(ConfigError, match="taken"):
        register_codec(ComplexCodec(), lambda value: False)


@pytest.mark.slow
def test_torch_state_dict_needs_no_import_of_torch_by_us():
    torch = pytest.importorskip("torch")
    state = torch.nn.Linear(2, 1).state_dict()
    sink = io.BytesIO()

    codec_for(dict(state)).encode(dict(state), sink)

    sink.seek(0)
    read = codec_named("safetensors").decode(sink)
    assert isinstance(read, dict)
    assert all(np.array_equal(read[key], state[key].numpy()) for key in state)
