"""Compressed headers of HTTP/2 (RFC 7541): a client's blocks to headers, and the few headers that we send to blocks."""

from collections import deque
from collections.abc import Iterable
from typing import Final, TypeAlias

from shoal.serve.grpc.frames import BrokenError, Code
from shoal.serve.grpc.huffman import decode_huffman

Header: TypeAlias = tuple[bytes, bytes]
DEFAULT_TABLE_BYTES: Final = 4096
# RFC 7541, section 4.1: what an entry costs beyond its texts.
_ENTRY_BYTES = 32
_LARGEST_INTEGER = 1 << 24
_STATIC: tuple[Header, ...] = (
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"), (b":status", b"204"), (b":status", b"206"),
    (b":status", b"304"), (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""), (b"accept", b""),
    (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""), (b"authorization", b""),
    (b"cache-control", b""), (b"content-disposition", b""), (b"content-encoding", b""), (b"content-language", b""),
    (b"content-length", b""), (b"content-location", b""), (b"content-range", b""), (b"content-type", b""),
    (b"cookie", b""), (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""), (b"if-range", b""),
    (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""), (b"location", b""),
    (b"max-forwards", b""), (b"proxy-authenticate", b""), (b"proxy-authorization", b""), (b"range", b""),
    (b"referer", b""), (b"refresh", b""), (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""), (b"vary", b""),
    (b"via", b""), (b"www-authenticate", b""),
)  # fmt: skip
_STATIC_PLACES = {header: place for place, header in reversed(list(enumerate(_STATIC, start=1)))}


class Decoder:
    """Reads the header blocks of one connection, which must all come here, in order.

    `num_changes` counts what happened to the table: while it stands still, equal blocks mean equal headers.
    """

    def __init__(self, *, most_list_bytes: int, most_table_bytes: int = DEFAULT_TABLE_BYTES) -> None:
        self.num_changes = 0
        self._most_list_bytes = most_list_bytes
        self._most_table_bytes = most_table_bytes
        self._limit_bytes = most_table_bytes
        self._table: deque[Header] = deque()
        self._table_bytes = 0

    def decode(self, block: bytes) -> list[Header] | None:
        """The headers of a block; None when they are larger than the limit, which leaves the connection usable.

        Raises:
            BrokenError: it is no header block, so that no later one can be read either.
        """
        try:
            return self._decode(block)
        except (ValueError, IndexError) as error:
            raise BrokenError(Code.COMPRESSION_ERROR, f"a header block that cannot be read: {error}") from error

    def _decode(self, block: bytes) -> list[Header] | None:
        headers: list[Header] = []
        num_bytes = 0
        at = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                place, at = read_integer(block, at, 7)
                header = self._entry(place)
            elif first & 0xE0 == 0x20:
                if headers:
                    raise ValueError("a table size after the first header")
                at = self._resize(block, at)
                continue
            else:
                # Kept in the table (01), or not (0000), or never by anybody (0001), which only matters to proxies.
                is_kept = bool(first & 0x40)
                header, at = self._literal(block, at, 6 if is_kept else 4)
                if is_kept:
                    self._keep(header)
            num_bytes += _size_of(header)
            # Read on all the same: what follows may change the table.
            if num_bytes <= self._most_list_bytes:
                headers.append(header)
        return headers if num_bytes <= self._most_list_bytes else None

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Header, int]:
        place, at = read_integer(block, at, bits)
        if place:
            name = self._entry(place)[0]
        else:
            name, at = _read_text(block, at)
        value, at = _read_text(block, at)
        return (name, value), at

    def _entry(self, place: int) -> Header:
        if place == 0:
            raise ValueError("a header of number 0")
        if place <= len(_STATIC):
            return _STATIC[place - 1]
        return self._table[place - len(_STATIC) - 1]

    def _keep(self, header: Header) -> None:
        self.num_changes += 1
        self._table.appendleft(header)
        self._table_bytes += _size_of(header)
        self._shrink()

    def _resize(self, block: bytes, at: int) -> int:
        size, at = read_integer(block, at, 5)
        if size > self._most_table_bytes:
            raise ValueError(f"a table of {size} bytes, at most {self._most_table_bytes} are allowed")
        self.num_changes += 1
        self._limit_bytes = size
        self._shrink()
        return at

    def _shrink(self) -> None:
        while self._table_bytes > self._limit_bytes:
            self._table_bytes -= _size_of(self._table.pop())


def encode_headers(headers: Iterable[Header]) -> bytes:
    """A block of headers that leaves the receiver's table alone, so that it means the same on every connection."""
    parts = []
    for name, value in headers:
        place = _STATIC_PLACES.get((name, value))
        if place is not None:
            parts.append(write_integer(place, 7, 0x80))
            continue
        named = _STATIC_PLACES.get((name, b""), 0)
        parts.append(write_integer(named, 4, 0))
        if not named:
            parts += (write_integer(len(name), 7, 0), name)
        parts += (write_integer(len(value), 7, 0), value)
    return b"".join(parts)


def read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """(the number whose lowest `bits` bits begin at a byte, where it ends); ValueError beyond every sensible size."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if value > _LARGEST_INTEGER or shift > 28:  # five bytes are more than the limit needs
            raise ValueError("a number without end")
        if not byte & 0x80:
            return value, at
        shift += 7


def write_integer(value: int, bits: int, mark: int) -> bytes:
    """The bytes of a number whose first byte has `bits` bits for it, beside a mark."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([mark | value])
    parts = [mark | most]
    value -= most
    while value >= 0x80:  # seven bits to a byte
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _read_text(block: bytes, at: int) -> tuple[bytes, int]:
    is_coded = bool(block[at] & 0x80)
    length, at = read_integer(block, at, 7)
    end = at + length
    if end > len(block):
        raise ValueError("a text that ends after its block")
    text = block[at:end]
    return (decode_huffman(text) if is_coded else text), end


def _size_of(header: Header) -> int:
    return len(header[0]) + len(header[1]) + _ENTRY_BYTES
