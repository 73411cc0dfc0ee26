"""Where the records of a text lie: line ends count, except those inside quoted values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.data import compiled

_LINE_FEED, _RETURN, _QUOTE = b"\n", b"\r", b'"'
# Counted in pieces that stay in the processor's cache: three times as fast as over the whole.
_COUNT_BYTES = 256 << 10
_BLANK_BYTES = 16
_MAX_VALUE_BYTES = 16 << 20

Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a text that are not blank: record i is the bytes `starts[i]:ends[i]`, and begins on `lines[i]`.

    Lines are counted from 0, the first of the text.
    """

    starts: Offsets
    ends: Offsets
    lines: Offsets

    def __len__(self) -> int:
        return len(self.starts)

    def content(self, data: bytes, index: int) -> bytes:
        """The bytes of one record, without its line end."""
        return data[self.starts[index] : self.ends[index]].rstrip(b"\r")

    def joined(self, data: bytes, wanted: NDArray[Any]) -> bytes:
        """The wanted records, a mask or indices of them, as one text."""
        return b"".join(
            data[start:end] + _LINE_FEED for start, end in zip(self.starts[wanted], self.ends[wanted], strict=True)
        )

    def breaks(self, wanted: NDArray[np.bool_] | None, first_line: int) -> tuple[tuple[int, int], ...]:
        """Where the line numbers of the wanted records jump: pairs (index among the wanted, line from `first_line`)."""
        lines = self.lines if wanted is None else self.lines[wanted]
        jumps = np.flatnonzero(
            lines - np.arange(len(lines)) != np.concatenate([[0], (lines - np.arange(len(lines)))[:-1]])
        )
        return tuple((int(index), int(lines[index]) + first_line) for index in jumps)


def count_lines(data: bytes) -> int:
    """How many lines a text has; what follows the last line end is one too."""
    ended = count_byte(data, 10)
    return ended + (not data.endswith(_LINE_FEED) and bool(data))


def count_byte(data: bytes, byte: int) -> int:
    """How often a byte occurs in a text."""
    if compiled.parsing is not None:
        found: int = compiled.parsing.count_byte(data, byte)
        return found
    array = np.frombuffer(data, np.uint8)
    pieces = range(0, len(array), _COUNT_BYTES)
    return sum(int(np.count_nonzero(array[start : start + _COUNT_BYTES] == byte)) for start in pieces)


def find_records(data: bytes, delimiter: bytes | None = None) -> Records:
    """Find the records of a text; with a `delimiter`, line ends inside quoted values belong to the value."""
    array = np.frombuffer(data, np.uint8)
    all_ends = np.flatnonzero(array == 10).astype(np.int64)
    if data.count(_RETURN) != data.count(b"\r\n"):
        returns = np.flatnonzero(array == 13)
        followed = np.append(array, np.uint8(0))[returns + 1] == 10
        all_ends = np.sort(np.concatenate([all_ends, returns[~followed]])).astype(np.int64)
    ends = all_ends
    if delimiter is not None and _QUOTE in data:
        ends = all_ends[~_are_quoted(data, all_ends, delimiter)]
    has_values = ends is not all_ends
    if not data.endswith((_LINE_FEED, _RETURN)) and data:
        ends = np.append(ends, len(data))
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    lines = np.searchsorted(all_ends, starts).astype(np.int64) if has_values else np.arange(len(starts))
    kept = ends - starts > 0
    short = np.flatnonzero(kept & (ends - starts <= _BLANK_BYTES))
    # A line of spaces is blank for JSON, and one value for CSV.
    blank = _RETURN if delimiter is not None else b" \t\r"
    kept[[index for index in short if not data[starts[index] : ends[index]].strip(blank)]] = False
    return Records(starts[kept], ends[kept], lines[kept])


def _are_quoted(data: bytes, ends: Offsets, delimiter: bytes) -> NDArray[np.bool_]:
    if (quotes := _paired_quotes(data, delimiter)) is not None:
        found: NDArray[np.bool_] = np.searchsorted(quotes, ends) % 2 == 1
        return found
    spans, open_at = quoted_spans(data, delimiter)
    if open_at is not None:
        spans = [*spans, (open_at, len(data))]
    if not spans:
        return np.zeros(len(ends), bool)
    starts, stops = np.array(spans, np.int64).T
    place = np.searchsorted(starts, ends) - 1
    inside: NDArray[np.bool_] = (place >= 0) & (ends < stops[np.maximum(place, 0)])
    return inside


def _paired_quotes(data: bytes, delimiter: bytes) -> Offsets | None:
    # The places of all quotes, if a value is open behind every second one and nowhere else; None where only looking at
    # one after the other tells. Each that opens must stand at a value's start, or be the second of a doubled one.
    array = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(array == _QUOTE[0]).astype(np.int64)
    openings = quotes[::2]
    before = array[np.maximum(openings - 1, 0)]
    may_open = np.zeros(256, bool)
    may_open[[*delimiter, *b'\r\n"']] = True
    return quotes if may_open[before].all() else None


def ends_inside(data: bytes, delimiter: bytes) -> bool:
    """Whether the text, which begins with a record, ends inside a quoted value."""
    return _scanned(data, delimiter)[1] >= 0


def quoted_spans(data: bytes, delimiter: bytes) -> tuple[list[tuple[int, int]], int | None]:
    """Find the quoted values: pairs (place of the first quote, place of the last), and where one is never closed.

    A quote opens a value only at its start; a doubled quote inside is a quote of the text. One whose value would have
    more than 16 MiB counts as never closed.
    """
    openers = {*delimiter, *b"\r\n"}
    spans: list[tuple[int, int]] = []
    place = data.find(_QUOTE)
    while place >= 0:
        if place and data[place - 1] not in openers:
            place = data.find(_QUOTE, place + 1)
            continue
        close = data.find(_QUOTE, place + 1)
        while close >= 0 and data[close + 1 : close + 2] == _QUOTE:
            close = data.find(_QUOTE, close + 2)
        if close < 0 or close - place > _MAX_VALUE_BYTES:
            return spans, place
        spans.append((place, close))
        place = data.find(_QUOTE, close + 1)
    return spans, None


def cut_lines(data: bytes) -> int:
    """How many bytes of the text are whole lines."""
    return data.rfind(_LINE_FEED) + 1


def cut_records(data: bytes, delimiter: bytes) -> int:
    """How many bytes of the text, which begins with a record, are whole records."""
    if _QUOTE not in data:
        return cut_lines(data)
    whole, open_at = _scanned(data, delimiter)
    if open_at >= 0 and len(data) - open_at > _MAX_VALUE_BYTES:
        # Never closed, in all likelihood: its line will be named, and the lines behind it are rows again. Only this
        # line, so that it does not matter how much was read at once.
        return data.find(_LINE_FEED, open_at) + 1 or whole
    return whole


def _scanned(data: bytes, delimiter: bytes) -> tuple[int, int]:
    # How many bytes are whole records, and the place of the quote whose value is never closed, or -1.
    if compiled.parsing is not None:
        found: tuple[int, int] = compiled.parsing.scan_quotes(data, delimiter[0], _MAX_VALUE_BYTES)
        return found
    spans, open_at = quoted_spans(data, delimiter)
    end = data.rfind(_LINE_FEED, 0, open_at)
    for start, stop in reversed(spans):
        if end > stop or end < 0:
            break
        if start < end:
            end = data.rfind(_LINE_FEED, 0, start)
    return end + 1, -1 if open_at is None else open_at
