"""Hugging Face datasets: rows as binary values in a mapped Arrow file, asked for a whole batch of rows at a time.

Binary values beat lists of numbers and Array2D in every format. The Arrow format gives the batch as an Arrow table;
the samples in it are collated as those of every other peer are. A second side skips that and reaches into the Arrow
buffers by hand: then pyarrow does all the work, and `datasets` only holds the file. It is shown, not counted.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, Value, load_from_disk
from driving import Batch, Side, Workload, drive, flat_batch, image_batch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler


class HuggingFace:
    """One dataset with a column of bytes, and for A one of labels."""

    settings: ClassVar[dict[str, str]] = {
        "all": "binary column, arrow format, one call a batch (BatchSampler), 0 workers, collate by one join a batch",
        "by hand": "the same with batches cut from the Arrow buffers by hand; not counted as the peer",
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Stream the rows into an Arrow file."""
        columns = {"data": Value("binary"), **({"label": Value("int64")} if workload.name == "A" else {})}
        rows = partial(_rows, workload)
        made = Dataset.from_generator(rows, features=Features(columns), cache_dir=str(folder / "cache"))
        made.save_to_disk(str(folder / "dataset"))

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """Two ways to make a batch of an Arrow table."""
        dataset = load_from_disk(str(folder / "dataset")).with_format("arrow")
        shape = None if workload.name == "C" else workload.images.shape[1:]
        found = {}
        for name, collate in {"datasets": _collate, "datasets by hand": _cut_buffers}.items():
            sampler = BatchSampler(RandomSampler(dataset), workload.batch_size, drop_last=False)
            loader = DataLoader(dataset, sampler=sampler, batch_size=None, collate_fn=partial(collate, shape))
            found[name] = lambda _, loader=loader: loader
        return found


def _rows(workload: Workload) -> Iterator[dict[str, object]]:
    for row in workload.rows():
        data = row[0] if workload.name == "C" else row[0].tobytes()
        yield {"data": data, "label": int(row[1])} if workload.name == "A" else {"data": data}


def _collate(shape: tuple[int, ...] | None, table: pa.Table) -> Batch:
    data = table["data"].to_pylist()
    if shape is None:
        return flat_batch(data)
    return image_batch(data, shape, table["label"].to_pylist() if "label" in table.column_names else ())


def _cut_buffers(shape: tuple[int, ...] | None, table: pa.Table) -> Batch:
    data = table["data"].combine_chunks()
    offsets = np.frombuffer(data.buffers()[1], np.int32)[data.offset : data.offset + len(data) + 1].astype(np.int64)
    flat = torch.from_numpy(np.frombuffer(data.buffers()[2], np.uint8)[offsets[0] : offsets[-1]])
    if shape is None:
        return flat, torch.from_numpy(offsets - offsets[0])
    images = flat.view(len(data), *shape)
    return (images, torch.from_numpy(table["label"].to_numpy())) if "label" in table.column_names else (images,)


if __name__ == "__main__":
    drive(HuggingFace())
