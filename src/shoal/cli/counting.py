"""Long work as it is seen while it goes on: a line that is redrawn on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from shoal.cli.output import may_draw

# Whoever reads a log later wants to see that it went on, and little more.
_LOG_EVERY_S = 10.0


class Counter:
    """Rows done of all there are, and how fast; called with the rows done so far, from one thread."""

    def __init__(self, text: str, num_rows: int, clock: Callable[[], float]) -> None:
        self._text = text
        self._num_rows = num_rows
        self._clock = clock
        # What was done before the first call says nothing about the speed: it may be the work of an earlier command.
        self._first: tuple[int, float] | None = None

    def line(self, done: int) -> str:
        """Where the work stands, in one line; speed and time left from the second call on."""
        now = self._clock()
        parts = [f"{self._text}  {done:,} of {self._num_rows:,} rows"]
        if self._first is None:
            self._first = (done, now)
        before, began = self._first
        if done > before and now > began:
            rate = (done - before) / (now - began)
            parts.append(f"{rate:,.0f} rows/s" if rate >= 10 else f"{rate:.2f} rows/s")
            if done < self._num_rows:
                parts.append(f"{_span((self._num_rows - done) / rate)} left")
        return ", ".join(parts)


@contextmanager
def counting(
    text: str, num_rows: int, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Show how far work on rows has come while the block runs; what it yields takes the rows done so far.

    All goes to standard error: on a terminal one line that is redrawn, elsewhere a line every 10 s.
    """
    counter = Counter(text, num_rows, clock)
    if may_draw():
        from rich.console import Console  # only commands that draw pay for it

        with Console(stderr=True).status(text) as status:
            yield lambda done: status.update(counter.line(done))
        return
    last = clock()

    def log(done: int) -> None:
        nonlocal last
        line = counter.line(done)
        if clock() - last >= _LOG_EVERY_S:
            last = clock()
            click.echo(line, err=True)

    yield log


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
