"""Shoal beside the limits of this machine: a gather from arrays in memory, in turn with it epoch by epoch."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from driving import Batch, Side, Workload, drive

import shoal.data
from shoal.data import Loader

# The face loads its parts when they are first named; a peer's imports are done before the clock starts, too.
_ = shoal.data.ingest, shoal.data.open

BATCHES_PER_STATE = 100
COLUMNS = {"A": ("image", "label"), "B": ("image",), "C": ("blob", "blob_offsets")}


class Shoal:
    """The settings are the defaults; the state to resume from is taken every 100 batches."""

    settings: ClassVar[dict[str, str]] = {
        "all": "defaults, shuffle=True over the whole dataset, digests checked, state_dict() every 100 batches",
        "index_select, numpy.take": "rows in memory, gathered by a permutation that was made before the clock starts; "
        "the faster of torch's own number of threads and one thread is the limit",
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Ingest from the arrays in memory."""
        shoal.data.ingest(source_of(workload), folder)

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """Shoal's loader, and the two ways to gather rows that are in memory already."""
        loader = shoal.data.open(folder).loader(batch_size=workload.batch_size, shuffle=True)
        limits = {} if workload.name == "C" else _limits(workload)
        return {"shoal": partial(epoch_of, loader, COLUMNS[workload.name]), **limits}


def source_of(workload: Workload) -> object:
    """The workload's arrays, as `shoal.data.ingest` takes them; no bytes are copied."""
    if workload.name == "C":
        offsets, values = pa.py_buffer(workload.offsets), pa.py_buffer(workload.blobs)
        blobs = pa.LargeBinaryArray.from_buffers(pa.large_binary(), workload.num_rows, [None, offsets, values])
        return pa.table({"blob": blobs})
    return {"image": workload.images, **({"label": workload.labels} if workload.name == "A" else {})}


def epoch_of(loader: Loader, columns: tuple[str, ...], _: int) -> Iterator[Batch]:
    """One epoch of a loader, with the states that a careful training loop would keep."""
    for number, batch in enumerate(loader):
        if number % BATCHES_PER_STATE == 0:
            loader.state_dict()
        yield tuple(batch[name] for name in columns)


def _limits(workload: Workload) -> dict[str, Side]:
    arrays = [np.array(values) for values in workload.arrays()]
    tensors = [torch.from_numpy(values) for values in arrays]
    order = torch.randperm(workload.num_rows)

    def select(_: int) -> Iterator[Batch]:
        for rows in order.split(workload.batch_size):
            yield tuple(values.index_select(0, rows) for values in tensors)

    def select_alone(epoch: int) -> Iterator[Batch]:
        # Two threads that meet after every batch lose more than they win where anything else runs.
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield from select(epoch)
        torch.set_num_threads(num_threads)

    def take(_: int) -> Iterator[Batch]:
        for rows in np.split(order.numpy(), range(workload.batch_size, workload.num_rows, workload.batch_size)):
            yield tuple(values.take(rows, axis=0) for values in arrays)

    return {"index_select": select, "index_select 1 thread": select_alone, "numpy.take": take}


if __name__ == "__main__":
    drive(Shoal())
