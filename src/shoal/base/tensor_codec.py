"""Codecs for arrays: flat dicts as safetensors, nested values as a JSON skeleton with safetensors behind it."""

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from shoal.base.errors import CorruptError, UnsupportedError
from shoal.base.handle import handle_words, is_handle, open_handle
from shoal.base.json import decode, encode

Arrays = Mapping[str, npt.NDArray[Any]]


class TensorCodec:
    """A flat dict of arrays or torch tensors as one safetensors file; what comes back are NumPy arrays."""

    name = "safetensors"

    def encode(self, value: object, sink: BinaryIO) -> None:
        """Write the arrays; a dtype that safetensors lacks is an UnsupportedError naming its key."""
        assert isinstance(value, Mapping)
        sink.write(_pack({key: _array(key, item) for key, item in value.items()}))

    def decode(self, source: BinaryIO) -> dict[str, npt.NDArray[Any]]:
        """Read NumPy arrays."""
        return _unpack(source.read())


class TreeCodec:
    """Nested dicts, lists and tuples of plain values, arrays and handles, all types kept.

    Layout: 8 bytes little-endian length, the JSON skeleton, then safetensors. In the skeleton a dict with one key
    that begins with `$` stands for what JSON cannot say.
    """

    name = "tree"

    def encode(self, value: object, sink: BinaryIO) -> None:
        """Write skeleton and arrays."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        skeleton = encode(_flatten(value, arrays))
        sink.write(len(skeleton).to_bytes(8, "little"))
        sink.write(skeleton)
        sink.write(_pack(arrays))

    def decode(self, source: BinaryIO) -> object:
        """Read the value, with NumPy arrays and open handles in it."""
        skeleton = source.read(int.from_bytes(source.read(8), "little"))
        return _rebuild(decode(skeleton), _unpack(source.read()))


def is_tree(value: object) -> bool:
    """Tell whether `TreeCodec` keeps the value."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return True
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "biuf"
    if isinstance(value, list | tuple):
        # A subclass, such as a named tuple, would come back as a plain one.
        return type(value) in (list, tuple) and all(map(is_tree, value))
    if isinstance(value, dict):
        return type(value) is dict and all(is_tree(key) and is_tree(item) for key, item in value.items())
    return is_handle(value)


def _flatten(value: object, arrays: dict[str, npt.NDArray[Any]]) -> object:
    if value is None or isinstance(value, bool | str):
        return value
    # NumPy's float64 is a float too: it must not lose its type here.
    if isinstance(value, np.generic):
        return {"$scalar": _keep(np.asarray(value), arrays)}
    if isinstance(value, int):
        return value if abs(value) < 2**63 else {"$int": str(value)}
    if isinstance(value, float):
        return value if value - value == 0 else {"$float": repr(value)}
    if isinstance(value, bytes):
        return {"$bytes": _keep(np.frombuffer(value, np.uint8), arrays)}
    if isinstance(value, np.ndarray):
        return {"$array": _keep(value, arrays)}
    if isinstance(value, list):
        return [_flatten(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [_flatten(item, arrays) for item in value]}
    if isinstance(value, dict):
        # As pairs: canonical JSON sorts keys, and a dict's order is part of what it says.
        return {"$dict": [[_flatten(key, arrays), _flatten(item, arrays)] for key, item in value.items()]}
    return handle_words(value)


def _rebuild(value: object, arrays: Arrays) -> object:
    if isinstance(value, list):
        return [_rebuild(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    ((mark, inside),) = value.items()
    return _MARKS[mark](inside, arrays)


_MARKS: Mapping[str, Callable[[Any, Arrays], object]] = {
    "$scalar": lambda name, arrays: arrays[name][()],
    "$int": lambda text, _: int(text),
    "$float": lambda text, _: float(text),
    "$bytes": lambda name, arrays: arrays[name].tobytes(),
    "$array": lambda name, arrays: arrays[name],
    "$tuple": lambda items, arrays: tuple(_rebuild(item, arrays) for item in items),
    "$dict": lambda pairs, arrays: {_rebuild(key, arrays): _rebuild(item, arrays) for key, item in pairs},
    "$handle": lambda words, _: open_handle(*words),
}


def _keep(array: npt.NDArray[Any], arrays: dict[str, npt.NDArray[Any]]) -> str:
    name = str(len(arrays))
    arrays[name] = _array(name, array)
    return name


def _array(key: str, value: Any) -> npt.NDArray[Any]:  # noqa: ANN401  # a tensor of a library not imported here
    try:
        # Torch tensors turn themselves into arrays; torch itself is never imported here.
        array = value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
        safetensors.numpy.save({"probe": np.empty(0, array.dtype)})
    except (TypeError, KeyError, AttributeError, safetensors.SafetensorError) as error:
        raise UnsupportedError(
            f"cannot write the array {key!r} of type {getattr(value, 'dtype', type(value).__name__)}: {error}",
            next_step="convert it to float32 or an integer type first",
        ) from error
    # Not ascontiguousarray: that would turn a number without dimensions into a row of one.
    return np.asarray(array, order="C")


def _pack(arrays: Arrays) -> bytes:
    return safetensors.numpy.save(dict(arrays))


def _unpack(data: bytes) -> dict[str, npt.NDArray[Any]]:
    try:
        return safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise CorruptError(
            f"cannot read {len(data)} bytes as safetensors: {error}", next_step="make the value again"
        ) from error
