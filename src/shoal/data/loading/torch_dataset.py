"""A loader's batches for whatever trains from `torch.utils.data`: Lightning, Accelerate, a plain DataLoader.

`batch_size` means here what it means everywhere in shoal: rows of a global batch, over all processes together. Under
four processes, `batch_size=256` gives each of them 64 rows a step.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset as MapDataset
from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from shoal.base import InputError, UnsupportedError
from shoal.data.loading.formats import TorchFormat
from shoal.data.loading.gather import RowGatherer
from shoal.data.loading.loader import Loader, process_place
from shoal.data.loading.pipeline import Batch
from shoal.data.loading.torch_iterations import Iterations, Start, Worker
from shoal.data.schema import Schema


class TorchBatches(IterableDataset[Batch]):
    """Whole batches, the same as the loader's, for `DataLoader(dataset, batch_size=None)`.

    Each process of a process group gets its part of every global batch; of DataLoader workers, the first makes the
    first batch, the second the second, and so on, and the DataLoader puts them back in order. Each iteration is the
    next epoch, also across DataLoaders and any number of workers; `set_epoch` chooses one, as trainers do.

    Leave `shuffle`, `sampler`, `drop_last` and Accelerate's `split_batches` and `dispatch_batches` at their defaults:
    the loader has done all of it already.
    """

    def __init__(self, make: Callable[[int, int], Loader]) -> None:
        """Take what makes the loader of a (rank, world size); called in the process that reads."""
        self._make = make
        self._loader: Loader | None = None
        # For which process and which place in the process group the loader was made.
        self._made_for: tuple[int, ...] = ()
        self._iterations = Iterations()
        self._sender_place = (0, 1)

    def __len__(self) -> int:
        """Batches per epoch, the same in every process."""
        return len(self._own_loader())

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        # Not in a generator: an iteration that is given up before its first batch has begun all the same.
        start = self._iterations.begin(worker)
        loader = self._own_loader()
        loader.batch_size = start.batch_size or loader.batch_size
        loader.seek(start.epoch, start.row)
        return iter(loader) if worker is None else self._shared(loader, worker)

    def _shared(self, loader: Loader, worker: Worker) -> Iterator[Batch]:
        yield from loader.share(worker.id, worker.num_workers)
        self._iterations.end(worker)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be this epoch; where it is so already, it goes on from the row of a loaded state."""
        start = self._iterations.next
        if start.epoch != epoch:
            start = replace(start, epoch=epoch, row=0)
        # Also where it is so already: whoever says where to go on knows that the workers' last epoch is over.
        self._iterations.set_next(start)
        self._own_loader().seek(epoch, start.row)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loop under way stands, as `Loader.state_dict`; behind workers' whole epoch, the next epoch.

        Raises:
            UnsupportedError: DataLoader workers read, or were left inside an epoch: how many of their batches were
                consumed is not known here.
        """
        loader = self._own_loader()
        if not self._iterations.is_last_mine:
            if get_worker_info() is not None or not self._iterations.is_last_over:
                raise UnsupportedError(
                    "cannot tell where DataLoader workers stand: they read ahead of the batches that were consumed",
                    next_step="use num_workers=0, which is as fast here: gathering needs no workers. Or count batches "
                    'yourself, and resume with batches.load_state_dict({**state, "row": num_batches * batch_size}), '
                    "the state taken before the epoch; behind an epoch, set_epoch(n) says which is next",
                )
            start = self._iterations.next
            loader.seek(start.epoch, start.row)
        return loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken, with any number of workers; as `Loader.load_state_dict`.

        Raises:
            InputError: it belongs to other data, or this is a DataLoader worker.
        """
        if get_worker_info() is not None:
            raise InputError(
                "cannot continue inside a DataLoader worker: the others would not know",
                next_step="load the state in the main process, before the DataLoader is iterated",
            )
        loader = self._own_loader()
        loader.load_state_dict(state)
        found = loader.state_dict()
        self._iterations.set_next(Start(found["epoch"], found["row"], found["batch_size"]))

    def _own_loader(self) -> Loader:
        place = self._place()
        if self._loader is None or self._made_for != (os.getpid(), *place):
            # A fork has its parent's loader, with locks that nobody opens and threads that do not run; and a process
            # group may have come up, or gone, since.
            before, self._loader = self._loader, self._make(*place)
            if before is not None:
                self._loader.load_state_dict(before.state_dict())
            self._made_for = (os.getpid(), *place)
        return self._loader

    def _place(self) -> tuple[int, int]:
        place = process_place(None, None)
        # A worker process that was started anew has no process group; the place of whom it works for came along.
        return self._sender_place if place == (0, 1) and get_worker_info() is not None else place

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens the files itself. Pickled for each worker of each iteration: the place is today's.
        return {**self.__dict__, "_loader": None, "_sender_place": self._place()}


class HasRows(Protocol):
    """A dataset, as far as its `gatherer` goes."""

    def gatherer(self, schema: Schema) -> RowGatherer:
        """Return what takes rows of these columns."""
        ...


class _Gathered(dict[str, Any]):
    """A batch that is collated already."""


def _collate_gathered(batch: Sequence[_Gathered], **_: object) -> Batch:
    return dict(batch[0])


# PyTorch documents this table for types of one's own: a plain DataLoader then needs no collate_fn.
default_collate_fn_map[_Gathered] = _collate_gathered


class TorchRows(MapDataset[Batch]):
    """Rows by number for `DataLoader(dataset, batch_size=...)` with any sampler; there, `batch_size` is per process.

    A batch is gathered at once and not row by row, so a DataLoader's own collating has nothing left to do.
    """

    def __init__(self, source: HasRows, schema: Schema) -> None:
        """Take the dataset, which is opened in the process that reads, and the columns."""
        self._source = source
        self._schema = schema
        self._opened_in: int | None = None
        self._rows: RowGatherer | None = None
        self._formatter: TorchFormat | None = None
        self._packed = frozenset(column.name for column in schema.columns if not column.is_fixed)
        self._offsets = frozenset(f"{name}_offsets" for name in self._packed)

    def __len__(self) -> int:
        """How many rows there are."""
        return self._opened()[0].num_rows

    def __getitem__(self, index: int) -> Batch:
        """Return one row; negative numbers count from the end. Text is its UTF-8 bytes, a list its numbers."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        rows, formatter = self._opened()
        batch = formatter(rows.gather(np.array([index % len(self)]), formatter.buffers))
        # One row alone is all that is packed here: where it begins and ends says nothing more.
        return {
            name: values if name in self._packed else values[0]
            for name, values in batch.items()
            if name not in self._offsets
        }

    def __getitems__(self, indices: Sequence[int]) -> list[_Gathered]:
        """Return a batch of rows as one item, which the default collating takes as it is."""
        rows, formatter = self._opened()
        return [_Gathered(formatter(rows.gather(np.asarray(indices, np.int64), formatter.buffers)))]

    def _opened(self) -> tuple[RowGatherer, TorchFormat]:
        if self._rows is None or self._formatter is None or self._opened_in != os.getpid():
            # In a fork too: its parent's may be locked by a thread that it does not have.
            self._opened_in = os.getpid()
            self._rows, self._formatter = self._source.gatherer(self._schema), TorchFormat(self._schema, {})
        return self._rows, self._formatter

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_rows": None, "_formatter": None}
