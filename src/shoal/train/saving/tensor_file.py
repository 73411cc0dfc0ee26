"""Tensors in the layout of a safetensors file, written straight into memory that is there already.

The library's own writer makes a second copy of everything while it keeps all other threads from running; this one
copies each tensor once, to where it belongs. Any reader of safetensors reads the result.
"""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from shoal.base import CorruptError, InputError, UnsupportedError, decode, encode

# Files begin at multiples of it where several lie in one piece of memory, and so do the tensors' bytes in a file.
ALIGN_BYTES = 64
_LENGTH_BYTES = 8
_SMALL_BYTES = 1 << 20
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file that is laid out but not written: `header`, then each of `tensors` at its offset from the file's start."""

    header: bytes
    tensors: Sequence[tuple[int, torch.Tensor]]
    size_bytes: int

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> "TensorFile":
        """Lay out a file; nothing is copied yet.

        Raises:
            UnsupportedError: a tensor's dtype or layout has no place in such a file; the message names the tensor.
        """
        for name, tensor in tensors.items():
            if tensor.dtype not in _NAMES or tensor.layout != torch.strided:
                raise UnsupportedError(
                    f"cannot write the tensor {name!r} into a checkpoint: it is {tensor.dtype}, {tensor.layout}",
                    next_step="keep it as a dense tensor of a common dtype",
                )
        # The widest first: without holes, which the format forbids, each then lies at a multiple of its own size.
        order = sorted(tensors, key=lambda name: -tensors[name].element_size())
        facts: dict[str, Any] = {"__metadata__": dict(metadata)}
        placed, end = [], 0
        for name in order:
            tensor = tensors[name].detach()
            start, end = end, end + tensor.nbytes
            facts[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
            placed.append((start, tensor))
        text = encode(facts, keep_order=True)
        text += b" " * (-(len(text) + _LENGTH_BYTES) % ALIGN_BYTES)
        header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
        return cls(header, [(len(header) + start, tensor) for start, tensor in placed], len(header) + end)

    def write(self, target: torch.Tensor) -> None:
        """Fill `target`, uint8 [size_bytes], with the tensors' present content."""
        target[: len(self.header)] = torch.frombuffer(bytearray(self.header), dtype=torch.uint8)
        memory = target.data_ptr()
        for start, tensor in self.tensors:
            if _is_small(tensor):
                # An Adam has a step count for each parameter: over 600 of them torch takes as long as over 20 MB.
                ctypes.memmove(memory + start, tensor.data_ptr(), tensor.nbytes)
            elif tensor.numel():
                place = target[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
                place.copy_(tensor)


def read_tensors(data: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, str], int]:
    """Return the tensors of a file as views of `data`, its metadata, and how many bytes of `data` it takes.

    Raises:
        CorruptError: the bytes are no such file.
    """
    try:
        start = _header_bytes(data)
        facts = decode(data[_LENGTH_BYTES:start].numpy().tobytes(), dict[str, Any])
        metadata = {str(name): str(value) for name, value in facts.pop("__metadata__", {}).items()}
        tensors, end = {}, start
        for name, fact in facts.items():
            tensors[name] = _view(data[start:], fact)
            end = max(end, start + fact["data_offsets"][1])
    except (InputError, ValueError, KeyError, TypeError, IndexError, RuntimeError, AttributeError) as error:
        raise CorruptError(
            f"cannot read tensors: these {len(data)} bytes are no whole safetensors file ({error})",
            next_step="use an older checkpoint",
        ) from error
    return tensors, metadata, end


def _is_small(tensor: torch.Tensor) -> bool:
    """Whether it is quicker to copy its bytes as they are, and right."""
    return (
        tensor.nbytes <= _SMALL_BYTES
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and not (tensor.is_neg() or tensor.is_conj())
    )


def _header_bytes(data: torch.Tensor) -> int:
    size = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES].numpy().tobytes(), "little")
    if not _LENGTH_BYTES < size <= len(data) or size % ALIGN_BYTES:
        raise ValueError(f"a header of {size} bytes")
    return size


def _view(data: torch.Tensor, fact: Mapping[str, Any]) -> torch.Tensor:
    dtype, shape = _DTYPES[fact["dtype"]], [int(size) for size in fact["shape"]]
    first, stop = (int(edge) for edge in fact["data_offsets"])
    if not 0 <= first <= stop <= len(data) or min(shape, default=0) < 0:
        raise ValueError(f"bytes {first} to {stop} of {len(data)}")
    if prod(shape) * dtype.itemsize != stop - first:
        raise ValueError(f"{stop - first} bytes for {fact['dtype']} {shape}")
    if first == stop:
        return torch.empty(shape, dtype=dtype)
    return data[first:stop].view(dtype).view(shape)
