"""What a task logs: named means that any member may add to, merged among all of them without losing a bit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from numbers import Real

import torch

from shoal.base import InputError, decode, encode
from shoal.train.metrics import Mean, Metric, Tally

# Enough for any task; a name with a step's number in it, say, would fill the memory.
MAX_NAMES = 256


@dataclass(slots=True)
class Logbook:
    """Means by name. What is added while a step is computed counts once the step is done: see `commit`."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    _pending: list[tuple[str, Metric]] = field(default_factory=list)

    def add(self, name: str, metric: Metric) -> None:
        """Add to the mean of that name at once."""
        if name not in self.tallies and len(self.tallies) == MAX_NAMES:
            raise InputError(
                f"cannot log {name!r}: {MAX_NAMES} other names are logged already, {', '.join(list(self.tallies)[:3])} "
                "among them",
                next_step="use the same few names at every step",
            )
        self.tallies.setdefault(name, Tally()).add(metric)

    def add_later(self, name: str, metric: Metric) -> None:
        """Add when the step that is being computed is done."""
        self._pending.append((name, metric))

    def commit(self) -> None:
        """The step is done."""
        if self._pending:
            for name, metric in self._pending:
                self.add(name, metric)
            self._pending.clear()

    def discard(self) -> None:
        """The step is not to be: it will be computed anew, perhaps by others."""
        self._pending.clear()

    def pack(self) -> bytes:
        """For another member, bit for bit."""
        # As hexadecimal text: JSON knows no infinity, and a loss may be one.
        return encode(
            {
                name: [[value.hex() for value in (*part.parts, part.lost)] for part in (tally.total, tally.weight)]
                for name, tally in self.tallies.items()
            }
        )

    def clear(self) -> None:
        """Begin anew."""
        self.tallies.clear()


def merge_books(packed: Iterable[bytes]) -> dict[str, Mean]:
    """The means over what all members' books hold together: the same whoever logged what, in any order."""
    merged: dict[str, Tally] = {}
    for data in packed:
        for name, pair in decode(data, dict[str, list[list[str]]]).items():
            tally = merged.setdefault(name, Tally())
            for target, values in zip((tally.total, tally.weight), pair, strict=True):
                for value in values:
                    target.add(float.fromhex(value))
    return {name: merged[name].mean for name in sorted(merged)}


@dataclass(frozen=True, slots=True)
class _Page:
    book: Logbook
    num_rows: int
    at_once: bool


_page: ContextVar[_Page | None] = ContextVar("page", default=None)


@contextmanager
def collecting(book: Logbook, num_rows: int, *, at_once: bool) -> Iterator[None]:
    """Let `log` write into a book while the block runs; a plain number weighs `num_rows`."""
    token = _page.set(_Page(book, num_rows, at_once))
    try:
        yield
    finally:
        _page.reset(token)


def log(name: str, value: float | torch.Tensor | Metric) -> None:
    """Add to a mean of this name; outside training and validation nothing happens.

    Args:
        name: the same few at every step.
        value: a number, or a tensor of one: a mean over the rows of this micro-batch. Or a measure, with its own
            weight.

    Raises:
        InputError: the value is none of these.
    """
    page = _page.get()
    if page is None:
        return
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, int | float | Real):
        metric: Metric = Mean.over(float(value), page.num_rows)
    elif isinstance(value, Metric):
        metric = value
    else:
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InputError(
            f"cannot log {name!r}: found {found}, expected one number or a measure",
            next_step="log its mean, or shoal.train.Mean.of(tensor)",
        )
    if page.at_once:
        page.book.add(name, metric)
    else:
        page.book.add_later(name, metric)
