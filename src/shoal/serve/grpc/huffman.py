"""Huffman-coded texts of HPACK (RFC 7541, appendix B), read four bits at a time."""

from functools import cache
from typing import NamedTuple

# The code is canonical: symbols in order of (bits, value) have consecutive codes, so the bits of each are all there is
# to know. The symbol that is missing, with 30 bits like the last three, ends the code.
_SYMBOLS_BY_BITS = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf"
    b"\xc5\xe7\xef",
    24: b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d"
    b"\x1e\x1f\x7f\xdc\xf9",
    30: b"\n\r\x16",
}
_END = 256
_LONGEST_PADDING = 7


class _Place(NamedTuple):
    """A place in the tree: the bits that were read since the last symbol, as a number, and how many."""

    bits: int
    num_bits: int


_START = _Place(0, 0)


class _Step(NamedTuple):
    """What four bits do: the symbol that they complete, at most one, and the place after them; None for no code."""

    symbol: bytes
    place: _Place | None


def decode_huffman(coded: bytes) -> bytes:
    """The text behind a code.

    Raises:
        ValueError: it is none: it holds the end symbol, or its padding is not the first bits of that symbol.
    """
    place = _START
    symbols = []
    for byte in coded:
        for nibble in (byte >> 4, byte & 15):
            symbol, after = _step(place, nibble)
            if after is None:
                raise ValueError("a Huffman code of no symbol")
            symbols.append(symbol)
            place = after
    if place.num_bits > _LONGEST_PADDING or place.bits != (1 << place.num_bits) - 1:
        raise ValueError("a Huffman code that ends within a symbol")
    return b"".join(symbols)


def _symbols_by_code() -> dict[_Place, int]:
    found = {}
    code = bits = 0
    for more, symbols in _SYMBOLS_BY_BITS.items():
        code <<= more - bits
        bits = more
        for symbol in symbols:
            found[_Place(code, bits)] = symbol
            code += 1
    return {**found, _Place(code, bits): _END}


_SYMBOLS = _symbols_by_code()


# A few hundred places with sixteen steps each: kept as they come up, never more.
@cache
def _step(place: _Place, nibble: int) -> _Step:
    symbol = b""
    for shift in (3, 2, 1, 0):
        place = _Place(place.bits << 1 | nibble >> shift & 1, place.num_bits + 1)
        found = _SYMBOLS.get(place)
        if found == _END:
            return _Step(b"", None)
        if found is not None:
            # The shortest code has five bits, so four of them complete one symbol at most.
            symbol = bytes([found])
            place = _START
    return _Step(symbol, place)
