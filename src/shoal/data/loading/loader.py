"""Batches for training: any batch of any epoch by its number, and iteration over them that resumes exactly."""

import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shoal.base import ConfigError, InputError
from shoal.data.loading.formats import FORMATS, Format
from shoal.data.loading.order import EpochOrder, Order
from shoal.data.loading.pipeline import Batch, Pipeline
from shoal.data.loading.prefetch import Choice, PrefetchMode, Reader

# Epoch and positions of a batch in it.
_Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How a dataset is cut into batches; `batch_size` rows over all ranks together.

    `rank` of `world_size` gets its part of every batch; both None means: those of torch's process group, if there is
    one in this process, else the whole batch. `format` None means torch where it is installed, else numpy. `pad` names
    the columns of varying length that are padded, with what. `prefetch` "auto" measures whether a thread helps.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    rank: int | None = None
    world_size: int | None = None
    drop_last: bool = False
    format: Format | None = None
    pad: Mapping[str, float] = field(default_factory=dict)
    prefetch: PrefetchMode = "auto"
    device: str | None = None
    pin_memory: bool | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "seed", "rank", "world_size"):
            # A state is plain JSON, and so are its numbers, whatever they were given as.
            if (value := getattr(self, name)) is not None or name in ("batch_size", "seed"):
                object.__setattr__(self, name, whole_number(name, value))
        for name in ("shuffle", "drop_last"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        if self.pin_memory is not None:
            object.__setattr__(self, "pin_memory", flag("pin_memory", self.pin_memory))
        _check_pad(self.pad)
        _check_batch_size(self.batch_size)
        if (self.rank is None) != (self.world_size is None):
            raise ConfigError(
                f"rank={self.rank} and world_size={self.world_size} belong together", next_step="give both or neither"
            )
        if self.rank is not None and self.world_size is not None and not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"rank={self.rank} must be from 0 to {self.world_size - 1}", next_step="count ranks from 0"
            )
        if self.format not in (*FORMATS, None):
            raise ConfigError(f"format={self.format!r} must be one of {', '.join(FORMATS)}", next_step="choose one")
        if self.prefetch not in ("auto", True, False):
            raise ConfigError(f"prefetch={self.prefetch!r} must be 'auto', True or False", next_step="choose one")


class Loader:
    """The batches of a dataset, epoch after epoch.

    The sequence of global batches depends on (dataset digest, order, seed, epoch, batch size) alone, whatever the
    ranks, threads, caches and shards; each row of the order is in exactly one batch of an epoch, but for `drop_last`.
    Each `for` loop is the next epoch. Iterate from one thread; `micro_batch` may be called from any.

    A batch's memory is used for a later batch once nobody holds it or a part of it.
    """

    def __init__(self, pipeline: Pipeline, digest: str, config: LoaderConfig, order: Order | None = None) -> None:
        """Cut the rows into batches.

        Args:
            pipeline: makes a batch of row numbers.
            digest: of the rows: what a state must agree with.
            config: how they are cut.
            order: in which order they come; None: all rows, as `config.shuffle` and `config.seed` say.
        """
        self._pipeline = pipeline
        self._digest = digest
        self._config = config
        self._rank, self._world_size = process_place(config.rank, config.world_size)
        num_rows = pipeline.gatherer.num_rows
        self._order = order or EpochOrder(num_rows, seed=config.seed, shuffle=config.shuffle)
        self._num_rows = self._order.num_rows
        self._check_fits(config.batch_size)
        self._choice = Choice(config.prefetch)
        self._batch_size = config.batch_size
        self._epoch = 0
        self._row = 0
        self._continues = True
        self._num_loops = 0
        self._reach: Callable[[int, int], None] | None = None

    @property
    def order(self) -> Order:
        """In which order the rows come."""
        return self._order

    def fetch_ahead(self, reach: Callable[[int, int], None]) -> None:
        """Have a function called with epoch and position before each batch is read: for data that must be fetched."""
        self._reach = reach

    def __len__(self) -> int:
        """Batches per epoch at the present batch size, the same on every rank."""
        num_full, rest = divmod(self._num_rows, self._batch_size)
        return num_full + (1 if rest and not self._config.drop_last else 0)

    @property
    def epoch(self) -> int:
        """The epoch in which the loop under way stands; a new loop begins the next epoch unless a state was loaded."""
        return self._next()[0]

    @property
    def batch_size(self) -> int:
        """Rows of a global batch. Set it at any time: the next batch has it, and the state carries it.

        Set it alike on every rank, between the same two batches.
        """
        return self._batch_size

    @batch_size.setter
    def batch_size(self, batch_size: int) -> None:
        batch_size = whole_number("batch_size", batch_size)
        _check_batch_size(batch_size)
        self._check_fits(batch_size)
        self._batch_size = batch_size

    @property
    def prefetch_decision(self) -> str:
        """Whether a thread makes batches ahead, and why; with prefetch="auto" known after the first 64 batches."""
        decision = self._choice.decision
        return "not decided yet: the first batches are being timed" if decision is None else decision.why

    def num_rows(self, batch: int) -> int:
        """Return how many rows the global batch of this number has: only the last may have fewer than the others."""
        return max(0, min(self._batch_size, self._num_rows - batch * self._batch_size))

    def __iter__(self) -> Iterator[Batch]:
        # A loop that was left early does not go on here: its epoch counts as over, unless its state was loaded.
        if not self._continues and self._row:
            self._epoch, self._row = self._epoch + 1, 0
        self._continues = False
        self._num_loops += 1
        return self._delivered(self._epoch, self._num_loops)

    def _delivered(self, epoch: int, loop: int) -> Iterator[Batch]:
        reader = Reader[_Place](self._make, self._following, self._choice)
        try:
            # Asked anew for each batch: the batch size may have been changed meanwhile.
            while (place := self._place_in(loop, epoch)) is not None:
                batch = reader.get(place)
                # Before the batch is handed out: a state that is saved while it is worked on counts it as delivered.
                self._epoch, self._row = (epoch + 1, 0) if place[2] == self._num_rows else (epoch, place[2])
                yield self._pipeline.hand_over(batch)
                if self._epoch != epoch and loop == self._num_loops:
                    return
        finally:
            reader.close()
        self._epoch, self._row = epoch + 1, 0

    def _place_in(self, loop: int, epoch: int) -> _Place | None:
        # There is one position: two loops would each get what the other leaves.
        if loop != self._num_loops:
            raise InputError(
                "this loop is over: another loop over this loader has begun",
                next_step="make a second loader to read in two loops at once",
            )
        return self._place(epoch, self._row)

    def share(self, index: int, num_shares: int) -> Iterator[Batch]:
        """Return every `num_shares`-th batch of this epoch, from the one that is `index` after the next on.

        The shares of all indexes are the rest of the epoch; the loader itself stays where it is.
        """
        epoch, row = self._next()
        size = self._batch_size
        places = [self._place(epoch, first) for first in range(row + index * size, self._num_rows, num_shares * size)]
        return (self._pipeline.hand_over(self._make(place)) for place in places if place is not None)

    def _next(self) -> tuple[int, int]:
        # At which batch an epoch is over depends on the batch size, which may change until the next batch is asked for.
        return (self._epoch, self._row) if self._place(self._epoch, self._row) else (self._epoch + bool(self._row), 0)

    def _place(self, epoch: int, row: int) -> _Place | None:
        stop = min(row + self._batch_size, self._num_rows)
        if row >= stop or (self._config.drop_last and stop - row < self._batch_size):
            return None
        return epoch, row, stop

    def _following(self, place: _Place) -> _Place | None:
        return self._place(place[0], place[2])

    def _make(self, place: _Place) -> Batch:
        epoch, first, stop = place
        return self._part(epoch, first, stop - first, self._rank, self._world_size)

    def _part(self, epoch: int, first: int, size: int, part: int, num_parts: int) -> Batch:
        if self._reach is not None:
            self._reach(epoch, first)
        # Integer division gives parts whose sizes differ by one at most, and needs no list of sizes.
        rows = self._order.rows(epoch, first + part * size // num_parts, first + (part + 1) * size // num_parts)
        batch: Batch = self._pipeline.make(rows, (epoch, first, size, part, num_parts))
        return batch

    def micro_batch(self, epoch: int, batch: int, part: int, num_parts: int) -> Batch:
        """Return one part of a global batch: rows part * B // num_parts to (part + 1) * B // num_parts of its B rows.

        Parts of one batch never overlap and together are the batch. A part is empty when the batch has fewer rows
        than parts. Needs no state: any batch of any epoch, in any order, counted in batches of the present size.

        Raises:
            InputError: there is no such batch or part.
        """
        if epoch < 0 or not 0 <= batch < len(self) or not 0 <= part < num_parts:
            raise InputError(
                f"there is no part {part} of {num_parts} of batch {batch} in epoch {epoch}: an epoch has "
                f"{len(self)} batches",
                next_step="count epochs, batches and parts from 0",
            )
        made: Batch = self._pipeline.hand_over(
            self._part(epoch, batch * self._batch_size, self.num_rows(batch), part, num_parts)
        )
        return made

    def stretch(self, epoch: int, first: int, size: int, part: int, num_parts: int) -> Batch:
        """Return one part of the `size` rows from position `first` of an epoch on, whatever the batch size.

        Cut as by `micro_batch`, which is this for whole batches; for a caller that changes the batch size by itself.

        Raises:
            InputError: there are no such rows or no such part.
        """
        self._check_stretch(epoch, first, size, part, num_parts)
        made: Batch = self._pipeline.hand_over(self._part(epoch, first, size, part, num_parts))
        return made

    def row_numbers(self, epoch: int, first: int, size: int) -> NDArray[np.int64]:
        """Return int64 [size]: which rows of the dataset lie at positions `first` and following of an epoch."""
        self._check_stretch(epoch, first, size, 0, 1)
        return self._order.rows(epoch, first, first + size)

    def _check_stretch(self, epoch: int, first: int, size: int, part: int, num_parts: int) -> None:
        is_inside = epoch >= 0 and first >= 0 and size >= 0 and first + size <= self._num_rows
        if not is_inside or not 0 <= part < num_parts:
            raise InputError(
                f"there is no part {part} of {num_parts} of rows {first} to {first + size} in epoch {epoch}: an epoch "
                f"has {self._num_rows} rows",
                next_step="count epochs, rows and parts from 0",
            )

    def state_dict(self) -> dict[str, Any]:
        """Return where the loop under way stands, as plain JSON values: O(1) whatever the dataset's size.

        Another loop over this loader begins the next epoch; one over a loader that this state was loaded into goes on.
        The state is the same on every rank, and may be loaded with another number of ranks.
        """
        epoch, row = self._next()
        return {"epoch": epoch, "row": row, "batch_size": self._batch_size, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken: the next loop starts with the batch after the last delivered one.

        The batch size is the state's from now on.

        Raises:
            InputError: the state belongs to other data or another order; the message names the field.
        """
        if not isinstance(state, Mapping):
            raise InputError(
                f"cannot resume from {state!r}: expected a state", next_step="use what state_dict() returned"
            )
        for name, expected in self._identity().items():
            if state.get(name) != expected:
                raise InputError(
                    f"cannot resume: the state has {name}={state.get(name)!r}, this loader has {expected!r}",
                    next_step=f"make the loader with the {name} of the state, or start anew without it",
                )
        missing = [name for name in ("epoch", "row", "batch_size") if type(state.get(name)) is not int]
        if missing or not 0 <= state["row"] <= self._num_rows or state["epoch"] < 0:
            raise InputError(
                f"cannot resume from {dict(state)}: expected whole numbers epoch, row and batch_size of this dataset",
                next_step="use what state_dict() returned",
            )
        self.batch_size = state["batch_size"]
        self._epoch, self._row, self._continues = state["epoch"], state["row"], True
        # Behind the last batch of an epoch lies the first of the next.
        self._epoch, self._row = self._next()

    def seek(self, epoch: int, row: int = 0) -> None:
        """Go on with the batch that begins at a position of an epoch."""
        place = {"epoch": whole_number("epoch", epoch), "row": whole_number("row", row)}
        self.load_state_dict({**self.state_dict(), **place})

    def _check_fits(self, batch_size: int) -> None:
        if self._config.drop_last and 0 < self._num_rows < batch_size:
            raise ConfigError(
                f"batch_size={batch_size} with drop_last=True leaves out all {self._num_rows} rows: no epoch would "
                "have a batch",
                next_step=f"use batch_size={self._num_rows} at most, or drop_last=False",
            )

    def _identity(self) -> dict[str, Any]:
        return {
            "dataset": self._digest,
            "order": getattr(self._order, "identity", type(self._order).__name__),
            "seed": self._config.seed,
            "drop_last": self._config.drop_last,
        }


def process_place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return (rank, world size): as given, else those of torch's process group in this process, else (0, 1)."""
    if rank is not None and world_size is not None:
        return rank, world_size
    # Who has a process group has imported torch: so it need not be imported here to find out.
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def whole_number(name: str, value: object) -> int:
    """Return the setting as a plain number.

    Raises:
        ConfigError: it is none, or has a fraction.
    """
    # True is a number to Python, and never what was meant.
    if not isinstance(value, bool):
        with suppress(TypeError):
            return operator.index(value)  # type: ignore[arg-type]  # what is none is refused below
    raise ConfigError(f"{name}={value!r} must be a whole number", next_step=f"round it: {name}=int(...)")


def flag(name: str, value: object) -> bool:
    """Return the setting as a plain bool.

    Raises:
        ConfigError: it is something else, such as "no", which Python takes for true.
    """
    if not isinstance(value, bool | np.bool_):
        raise ConfigError(f"{name}={value!r} must be True or False", next_step="choose one")
    return bool(value)


def _check_pad(pad: object) -> None:
    if not isinstance(pad, Mapping):
        raise ConfigError(
            f"pad={pad!r} must say what each column is padded with", next_step='write it so: pad={"text": 0}'
        )
    for name, value in pad.items():
        if not isinstance(value, int | float | np.number):
            raise ConfigError(f"pad={{{name!r}: {value!r}}} must be a number", next_step=f"use pad={{{name!r}: 0}}")


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be >= 1", next_step="give the rows of a whole batch")
