"""Codecs: how values become bytes that another process, machine or year can read. Nothing here is ever unpickled."""

import importlib
import sys
from collections.abc import Callable
from typing import BinaryIO, Protocol

from shoal.base.errors import ConfigError, NotFoundError, UnsupportedError
from shoal.base.handle import handle_words, is_handle, open_handle
from shoal.base.json import decode, encode

_BATCH_MARK = b"shoal.record_batch"


class Codec(Protocol):
    """Writes values of certain types as bytes and reads them back equal, types included.

    Its `name` is stored beside the bytes: a name's format never changes, a new format takes a new name.
    """

    @property
    def name(self) -> str:
        """The word stored beside the bytes."""
        ...

    def encode(self, value: object, sink: BinaryIO) -> None:
        """Write a value that the codec accepts; the sink is left open."""
        ...

    def decode(self, source: BinaryIO) -> object:
        """Read what `encode` wrote, to the source's end."""
        ...


class BytesCodec:
    """Bytes as they are."""

    name = "bytes"

    def encode(self, value: object, sink: BinaryIO) -> None:
        """Write the bytes."""
        assert isinstance(value, bytes)
        sink.write(value)

    def decode(self, source: BinaryIO) -> bytes:
        """Read all bytes."""
        return source.read()


class JsonCodec:
    """Plain values and handles as JSON, where that keeps every type: no tuples, no NaN, no keys that begin with `$`.

    A handle is written as {"$handle": [kind, address, digest]} and opened again when read.
    """

    name = "json"

    def encode(self, value: object, sink: BinaryIO) -> None:
        """Write JSON."""
        sink.write(encode(_with_handles(value), keep_order=True))

    def decode(self, source: BinaryIO) -> object:
        """Read JSON and open the handles in it."""
        return _open_handles(decode(source.read()))


class ArrowCodec:
    """An Arrow table or record batch as an Arrow stream that any Arrow library reads; batches keep their borders."""

    name = "arrow"

    def encode(self, value: object, sink: BinaryIO) -> None:
        """Write an Arrow stream."""
        import pyarrow as pa

        assert isinstance(value, pa.Table | pa.RecordBatch)
        schema = value.schema
        if isinstance(value, pa.RecordBatch):
            schema = schema.with_metadata({**(schema.metadata or {}), _BATCH_MARK: b"1"})
            value = value.replace_schema_metadata(schema.metadata)
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write(value)

    def decode(self, source: BinaryIO) -> object:
        """Read a table, or a record batch where one was written."""
        import pyarrow as pa

        with pa.ipc.open_stream(source) as reader:
            metadata = dict(reader.schema.metadata or {})
            if metadata.pop(_BATCH_MARK, None) is None:
                return reader.read_all()
            batch = reader.read_next_batch()
            return batch.replace_schema_metadata(metadata or None)


def is_json(value: object) -> bool:
    """Tell whether JSON keeps the value with all its types, handles counted as one value each."""
    if value is None or type(value) in (bool, str):
        return True
    if type(value) is int:
        return -(2**63) <= value < 2**64
    if type(value) is float:
        return value - value == 0  # neither infinite nor NaN
    if isinstance(value, list):
        return type(value) is list and all(map(is_json, value))
    if isinstance(value, dict):
        return type(value) is dict and all(
            type(key) is str and not key.startswith("$") and is_json(item) for key, item in value.items()
        )
    return is_handle(value)


def _with_handles(value: object) -> object:
    if isinstance(value, list):
        return [_with_handles(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_handles(item) for key, item in value.items()}
    return handle_words(value) if is_handle(value) else value


def _open_handles(value: object) -> object:
    if isinstance(value, list):
        return [_open_handles(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {"$handle"}:
            return open_handle(*value["$handle"])
        return {key: _open_handles(item) for key, item in value.items()}
    return value


def _is_arrow(value: object) -> bool:
    # Whoever holds an Arrow value has imported pyarrow: no need to import it to say no.
    pyarrow = sys.modules.get("pyarrow")
    return pyarrow is not None and isinstance(value, pyarrow.Table | pyarrow.RecordBatch)


def _is_tensors(value: object) -> bool:
    return (
        type(value) is dict and bool(value) and all(type(key) is str and _is_array(item) for key, item in value.items())
    )


def _is_array(value: object) -> bool:
    # By name, so that neither numpy nor torch is imported to say no.
    kind = type(value)
    return f"{kind.__module__}.{kind.__name__}" in ("numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter")


def _is_tree(value: object) -> bool:
    from shoal.base.tensor_codec import is_tree

    return is_tree(value)


_Accepts = Callable[[object], bool]
_codecs: dict[str, tuple[_Accepts, Codec | str]] = {
    "bytes": (lambda value: type(value) is bytes, BytesCodec()),
    "arrow": (_is_arrow, ArrowCodec()),
    "json": (is_json, JsonCodec()),
    "safetensors": (_is_tensors, "shoal.base.tensor_codec:TensorCodec"),
    "tree": (_is_tree, "shoal.base.tensor_codec:TreeCodec"),
}


def register_codec(codec: Codec, accepts: _Accepts) -> None:
    """Add a codec for values that the built-in ones refuse; `accepts` must be cheap and never raise.

    Raises:
        ConfigError: the name is taken: bytes already stored under it must stay readable.
    """
    if codec.name in _codecs:
        raise ConfigError(f"cannot register the codec {codec.name!r}: the name is taken", next_step="rename the codec")
    _codecs[codec.name] = (accepts, codec)


def codec_for(value: object) -> Codec:
    """Return the first codec that keeps this value and all its types.

    Raises:
        UnsupportedError: no codec does; the message names the type.
    """
    for name, (accepts, _) in list(_codecs.items()):
        if accepts(value):
            return codec_named(name)
    raise UnsupportedError(
        f"cannot write a {type(value).__module__}.{type(value).__qualname__}: no codec keeps it",
        next_step="return plain values, arrays, Arrow tables or handles such as File(path), or call register_codec",
    )


def codec_named(name: str) -> Codec:
    """Return the codec whose name was stored beside some bytes; NotFoundError lists the known names."""
    if name not in _codecs:
        raise NotFoundError(
            f"cannot read bytes of codec {name!r}: known codecs are {sorted(_codecs)}",
            next_step="import the package that registers it",
        )
    accepts, codec = _codecs[name]
    if isinstance(codec, str):
        module, _, attribute = codec.partition(":")
        loaded: Codec = getattr(importlib.import_module(module), attribute)()
        _codecs[name] = (accepts, loaded)
        return loaded
    return codec
