"""What a worker has done and the supervisor may not know yet, bounded.

All members of a generation do the same and write it down; the first of them tells. When that one dies, the next tells
what is missing, so that every step, epoch and validation is told exactly once.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import msgspec

from shoal.train.reports import EpochDone, Resized, Steps, Validated, from_message, to_message
from shoal.train.worker.orders import Told

# Far more steps than are done in the quarter of a second between two reports.
_MAX_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Done:
    """One step: its number, its epoch, its loss, what it took, and how many rows of the epoch are done after it."""

    step: int
    epoch: int
    loss: float
    rows: int
    seconds: float
    wait_s: float
    exchange_s: float
    update_s: float
    workers: int
    batch_size: int
    row: int = 0


Entry = Done | EpochDone | Resized | Validated


class Diary:
    """Entries in the order in which they happened."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_MAX_ENTRIES)

    def add(self, entry: Entry) -> None:
        """Write something down; beyond the bound the oldest goes."""
        self._entries.append(entry)

    def forget(self, told: Told) -> None:
        """Drop what the supervisor knows."""
        self._entries = deque((entry for entry in self._entries if not _is_told(entry, told)), _MAX_ENTRIES)

    def take(self) -> Iterator[Steps | EpochDone | Resized | Validated]:
        """What is to be told, in order; it is dropped as it is taken."""
        entries, self._entries = self._entries, deque(maxlen=_MAX_ENTRIES)
        for (kind, epoch), found in groupby(entries, key=_kind_and_epoch):
            if kind is Done:
                yield _steps(epoch, [entry for entry in found if isinstance(entry, Done)])
            else:
                yield from (entry for entry in found if not isinstance(entry, Done))

    def to_bytes(self) -> bytes:
        """All entries, for another member."""
        return msgspec.msgpack.encode([_to_json(entry) for entry in self._entries])

    def replace(self, data: bytes) -> None:
        """Take another member's entries in place of one's own."""
        self._entries = deque((_from_json(entry) for entry in msgspec.msgpack.decode(data)), _MAX_ENTRIES)


def _kind_and_epoch(entry: Entry) -> tuple[type, int]:
    return type(entry), -1 if isinstance(entry, Resized) else entry.epoch


def _is_told(entry: Entry, told: Told) -> bool:
    if isinstance(entry, EpochDone):
        return entry.epoch <= told.epoch
    if isinstance(entry, Resized):
        # It is told with the first step that was done with it.
        return entry.step < told.step
    return entry.step <= (told.validation if isinstance(entry, Validated) else told.step)


def _steps(epoch: int, done: list[Done]) -> Steps:
    return Steps(
        epoch=epoch,
        first_step=done[0].step,
        losses=[entry.loss for entry in done],
        rows=sum(entry.rows for entry in done),
        seconds=sum(entry.seconds for entry in done),
        wait_s=sum(entry.wait_s for entry in done),
        exchange_s=sum(entry.exchange_s for entry in done),
        update_s=sum(entry.update_s for entry in done),
        workers=done[-1].workers,
        batch_size=done[-1].batch_size,
        row=done[-1].row,
    )


def _to_json(entry: Entry) -> Any:  # noqa: ANN401  # JSON
    return {"kind": "Done", **asdict(entry)} if isinstance(entry, Done) else to_message(entry)


def _from_json(entry: dict[str, Any]) -> Any:  # noqa: ANN401  # one of the four
    return (
        Done(**{name: entry[name] for name in entry if name != "kind"})
        if entry["kind"] == "Done"
        else from_message(entry)
    )
