"""The moments of a run as they are shown: one line redrawn in place for people, JSON lines for programs."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic
from typing import Protocol, TextIO

from shoal.base import Json, encode
from shoal.train.journal import Progress

# A file that somebody reads later needs no four lines a second.
_JSON_EVERY_S = 1.0
_GAP = "   "
_START_OF_LINE, _CLEAR_LINE = "\r", "\x1b[2K"


class Live(Protocol):
    """Shows the moments of one run; what `fit(progress=...)` takes. Used from one thread."""

    def __call__(self, progress: Progress) -> None:
        """Show a moment, and what happened since the last one."""

    def say(self, kind: str, text: str) -> None:
        """Show something else that happened, such as a "warning"."""

    def end(self) -> None:
        """Leave the display as it should stay, ready for whatever is printed next. Idempotent."""


def describe(progress: Progress, width: int | None = None) -> str:
    """A moment in one line, as people read it; what is not known is left out.

    Args:
        progress: the moment.
        width: columns there are; what does not fit is left out, the least important first.
    """
    # In the order in which they are shown, each with its place in the order of importance.
    parts = [(rank, text) for rank, text in _parts(progress) if text]
    while len(parts) > 1 and width is not None and len(_GAP.join(text for _, text in parts)) > width:
        parts.remove(max(parts))
    return _GAP.join(text for _, text in parts)


def _parts(progress: Progress) -> list[tuple[int, str]]:
    total = f" of {progress.num_steps}" if progress.num_steps is not None else ""
    # While it is measured no steps are done: their speed, and the time left at it, would look like a standstill.
    is_training = progress.phase == "training"
    return [
        (0, f"step {progress.step:>6}{total}"),
        (1, f"loss {progress.loss:.4f}"),
        (2, "validating" if progress.phase == "validating" else ""),
        (5, _measures(progress)),
        (6, f"{progress.samples_per_s:,.0f} samples/s" if progress.phase != "validating" else ""),
        (3, f"eta {duration(progress.eta_s)}" if is_training and progress.eta_s is not None else ""),
        (4, f"{progress.workers} worker{'' if progress.workers == 1 else 's'}"),
        (7, f"data wait {progress.data_wait:.0%}"),
        (8, f"comm {progress.comm_share:.0%}"),
        (9, f"update {progress.update_share:.0%}"),
        (10, f"batch {progress.batch_size}"),
    ]


def _measures(progress: Progress) -> str:
    """The one measure that says most: the task's own before the loss."""
    measured = progress.validation
    name = next((name for name in measured if name != "loss"), "loss")
    return f"val {name} {measured[name]:.3f}" if name in measured else ""


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> [duration(seconds) for seconds in (0.4, 59, 200, 7300, 200_000)]
    ['0 s', '59 s', '3 min', '2 h 2 min', '2 d 8 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24} h"


class TerminalLine:
    """One line redrawn in place; what happened, such as a worker's death, stays above it as a line of its own."""

    def __init__(self, stream: TextIO, *, width: Callable[[], int] | None = None) -> None:
        """Draw on a terminal.

        Args:
            stream: the terminal.
            width: says how many columns it has now.
        """
        self._stream = stream
        self._width = width or (lambda: shutil.get_terminal_size().columns)
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        """Draw the moment over the one before; the last of a run ends the line."""
        self._last = progress
        self._draw(*progress.news)
        if progress.phase == "ended":
            self.end()

    def say(self, kind: str, text: str) -> None:
        """Put a line above the one that is redrawn."""
        self._draw(f"{kind}  {text}")

    def end(self) -> None:
        """Draw the last moment whole, as it may wrap now, and go to the next line."""
        if self._last is not None:
            self._stream.write(_START_OF_LINE + _CLEAR_LINE + describe(self._last) + "\n")
            self._stream.flush()
            self._last = None

    def _draw(self, *above: str) -> None:
        lines = [_START_OF_LINE + _CLEAR_LINE + line + "\n" for line in above]
        # A line that wraps could not be drawn over: it would leave its first half behind, again and again.
        room = max(1, self._width() - 1)
        shown = "" if self._last is None else describe(self._last, room)[:room]
        self._stream.write("".join(lines) + _START_OF_LINE + _CLEAR_LINE + shown)
        self._stream.flush()


class PlainLines:
    """One line a moment, for a terminal on which nothing may be drawn."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, progress: Progress) -> None:
        """Write what happened, then the moment."""
        self._stream.write("".join(f"{line}\n" for line in (*progress.news, describe(progress))))
        self._stream.flush()

    def say(self, kind: str, text: str) -> None:
        """Write a line."""
        self._stream.write(f"{kind}  {text}\n")
        self._stream.flush()

    def end(self) -> None:
        """Nothing is left to do."""


class JsonLines:
    """One JSON document a line: `event` is "progress", at most once a second, or "news" or "warning", at once.

    Where a run turns from training to validating, back, or to its end, that moment is written at once too.
    The last moment is always written, so that a file's last line of progress is where the run stood.
    """

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = monotonic) -> None:
        self._stream = stream
        self._now = now
        self._written_at: float | None = None
        self._waiting: Progress | None = None
        self._phase = "training"

    def __call__(self, progress: Progress) -> None:
        """Write what happened, and the moment if it is due."""
        for news in progress.news:
            self._write({"event": "news", "run": progress.run, "step": progress.step, "text": news})
        now = self._now()
        is_turn, self._phase = progress.phase != self._phase, progress.phase
        if is_turn or self._written_at is None or now - self._written_at >= _JSON_EVERY_S:
            self._write_moment(progress)
            self._written_at, self._waiting = now, None
        else:
            self._waiting = progress

    def say(self, kind: str, text: str) -> None:
        """Write it at once."""
        self._write({"event": kind, "text": text})

    def end(self) -> None:
        """Write the last moment if it was held back."""
        if self._waiting is not None:
            self._write_moment(self._waiting)
            self._waiting = None

    def _write_moment(self, progress: Progress) -> None:
        facts = asdict(progress)
        del facts["news"]
        self._write({"event": "progress", **facts})

    def _write(self, facts: dict[str, Json]) -> None:
        self._stream.write(encode(facts).decode() + "\n")
        self._stream.flush()


def live(stream: TextIO | None = None, *, as_json: bool = False, draw: bool = True) -> Live:
    """The display that suits a stream.

    Args:
        stream: standard error unless given.
        as_json: JSON lines also on a terminal.
        draw: False on a terminal that must not be drawn on: plain lines.
    """
    stream = stream or sys.stderr
    if as_json or not stream.isatty():
        return JsonLines(stream)
    return TerminalLine(stream) if draw else PlainLines(stream)
