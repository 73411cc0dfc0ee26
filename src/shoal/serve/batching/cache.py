"""The prediction cache: what a version gave for just these inputs, kept while there is room."""

import secrets
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import xxhash

from shoal.base import ConfigError
from shoal.serve.wire.protocol import InferCall, Protocol, Wishes
from shoal.serve.wire.tensors import Array

# What Python adds to the values of an entry, and to each of its arrays: tracemalloc finds 531 bytes for an entry of one
# output and 715 for one of three.
_ENTRY_BYTES, _ARRAY_BYTES = 450, 100
# The same of a note, whose id and wishes come on top; its author must not make it as long as he likes.
_NOTE_BYTES, _WISH_BYTES = 450, 64
_MOST_ID_LETTERS = 64
_LEAST_BYTES = 4 << 10


class _Note(NamedTuple):
    """What a body said when it was decoded; its inputs as their digest alone."""

    id: str | None
    num_rows: int
    wishes: Wishes
    digest: bytes


class NotedCall:
    """A request whose very body was decoded before: as `InferCall`, but its arrays are decoded when they are needed."""

    __slots__ = ("_arrays", "_body", "_protocol", "digest", "id", "num_rows", "parameters", "wishes")

    def __init__(self, protocol: Protocol, body: bytes, note: _Note, arrays: tuple[Array, ...] | None = None) -> None:
        self._protocol = protocol
        self._body = body
        self._arrays = arrays
        self.id, self.num_rows, self.wishes, self.digest = note
        # Bodies with parameters are not noted.
        self.parameters: dict[str, Any] | None = None

    @property
    def arrays(self) -> tuple[Array, ...]:
        """One per input of the interface, in its order."""
        if self._arrays is None:
            self._arrays = self._protocol.decode(self._body).arrays
        return self._arrays


@dataclass(slots=True)
class _Kept:
    value: Any
    num_bytes: int
    used: int


@dataclass(slots=True)
class _Shelf:
    """The entries of one version or of one protocol, the one that was used longest ago first."""

    entries: OrderedDict[bytes, _Kept] = field(default_factory=OrderedDict)
    num_bytes: int = 0


class PredictionCache:
    """Outputs by version and by digest of the inputs; what was used longest ago goes first. For the event loop alone.

    Inputs are compared after decoding, so a body is read as strictly as without a cache, and bodies that say the same
    in other words (another id, other spaces, JSON or binary) share an entry. All outputs are kept, whichever were
    wished. Decoding JSON is most of what a hit costs, so of a body that was decoded once a note is kept, under the
    digest of its bytes: what it said, with the digest of its inputs. The same bytes say the same thing again.

    Digests are xxh3 of 128 bits: no two of the things that a server ever sees share one by chance. It is no digest to
    trust an author with, so it is seeded with a number that nobody outside this process knows.
    """

    def __init__(self, most_bytes: int) -> None:
        """Keep at most this many bytes, entries' own cost included.

        Raises:
            ConfigError: there is no room for anything.
        """
        if most_bytes < _LEAST_BYTES:
            raise ConfigError(
                f"prediction_cache_bytes={most_bytes} keeps next to nothing, expected at least {_LEAST_BYTES}",
                next_step="leave it out for no cache, or give a few megabytes",
            )
        self.most_bytes = most_bytes
        self.num_bytes = 0
        self.num_evicted = 0
        self._seed = secrets.randbits(64)
        self._outputs: dict[int, _Shelf] = {}
        self._notes: dict[Protocol, _Shelf] = {}
        self._num_uses = 0

    def __len__(self) -> int:
        return sum(len(shelf.entries) for shelf in self._outputs.values())

    def read(self, protocol: Protocol, body: bytes, json_bytes: int | None) -> InferCall | NotedCall:
        """What `protocol.decode` gives; without decoding where these bytes were decoded before.

        Raises:
            RefusedError: 400, as `decode`; such a body is never noted.
        """
        # Binary tensors are views of the body: there is nothing to save.
        if json_bytes is not None:
            return protocol.decode(body, json_bytes)
        name = xxhash.xxh3_128_digest(body, self._seed)
        note = self._find(self._notes.get(protocol), name)
        if note is not None:
            return NotedCall(protocol, body, note)
        call = protocol.decode(body)
        digest = self.digest(call.arrays)
        if call.parameters or len(call.id or "") > _MOST_ID_LETTERS or digest is None:
            return call
        note = _Note(call.id, call.num_rows, call.wishes, digest)
        # At most four bytes a letter.
        num_bytes = _NOTE_BYTES + 4 * len(call.id or "") + _WISH_BYTES * len(protocol.interface.outputs)
        self._keep(self._notes.setdefault(protocol, _Shelf()), name, note, num_bytes)
        return NotedCall(protocol, body, note, call.arrays)

    def digest(self, arrays: Sequence[Array]) -> bytes | None:
        """The name of these inputs; None for arrays that hold references instead of values."""
        # Shapes and sizes of elements first: the bytes after them can then be cut in one way only.
        layout = repr([(array.shape, array.dtype.str) for array in arrays])
        hasher = xxhash.xxh3_128(layout.encode(), self._seed)
        for array in arrays:
            if array.dtype.hasobject:
                return None
            flat = np.ascontiguousarray(array)
            hasher.update(flat)  # type: ignore[arg-type]  # an array is a buffer, which numpy's stubs do not say
        return hasher.digest()

    def find(self, serial: int, digest: bytes) -> list[Array] | None:
        """The outputs that the version with this number gave for the inputs with this digest; not to be written to."""
        found: list[Array] | None = self._find(self._outputs.get(serial), digest)
        return found

    def keep(self, serial: int, digest: bytes, outputs: Sequence[Array]) -> None:
        """Keep a copy of these outputs, and drop what was used longest ago if there is no room."""
        num_bytes = _ENTRY_BYTES + sum(_ARRAY_BYTES + array.nbytes for array in outputs)
        if num_bytes <= self.most_bytes:
            # Copied: a request's rows are a view of its whole batch, which must not stay for them.
            copies = [np.array(array) for array in outputs]
            self._keep(self._outputs.setdefault(serial, _Shelf()), digest, copies, num_bytes)

    def forget(self, serials: Collection[int], protocols: Collection[Protocol]) -> None:
        """Drop the entries of all versions and protocols but these."""
        dropped = [self._outputs.pop(serial) for serial in self._outputs.keys() - set(serials)]
        dropped += [self._notes.pop(protocol) for protocol in self._notes.keys() - set(protocols)]
        self.num_bytes -= sum(shelf.num_bytes for shelf in dropped)

    def _find(self, shelf: _Shelf | None, name: bytes) -> Any:  # noqa: ANN401  # as it was kept
        kept = None if shelf is None else shelf.entries.get(name)
        if shelf is None or kept is None:
            return None
        self._num_uses += 1
        kept.used = self._num_uses
        shelf.entries.move_to_end(name)
        return kept.value

    def _keep(self, shelf: _Shelf, name: bytes, value: object, num_bytes: int) -> None:
        # Asked twice before it was answered: the first answer stays.
        if name in shelf.entries:
            return
        while self.num_bytes + num_bytes > self.most_bytes:
            self._evict()
        self._num_uses += 1
        shelf.entries[name] = _Kept(value, num_bytes, self._num_uses)
        shelf.num_bytes += num_bytes
        self.num_bytes += num_bytes

    def _evict(self) -> None:
        # One comparison for each version; entries of one version are in order already.
        shelf = min(
            (shelf for shelf in (*self._outputs.values(), *self._notes.values()) if shelf.entries),
            key=lambda shelf: next(iter(shelf.entries.values())).used,
        )
        _, dropped = shelf.entries.popitem(last=False)
        shelf.num_bytes -= dropped.num_bytes
        self.num_bytes -= dropped.num_bytes
        self.num_evicted += 1
