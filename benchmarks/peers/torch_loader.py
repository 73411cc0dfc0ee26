"""torch's DataLoader over arrays in RAM: nothing is on disk, so it is a limit for people who can hold their data."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from driving import Batch, Side, Workload, drive, flat_batch
from torch.utils.data import DataLoader, Dataset, default_collate


class TorchLoader:
    """Batches by one `__getitems__`, and row by row with the default collation."""

    settings: ClassVar[dict[str, str]] = {
        "all": "arrays in RAM, 0 workers (2 are slower), __getitems__ with index_select; and per item"
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Store nothing."""

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """Both ways; blobs only by the whole batch."""
        del folder
        if workload.name == "C":
            rows: Dataset = _Blobs(workload)
            return {"torch __getitems__": _side(rows, workload.batch_size, _as_it_is)}
        images = _Images(workload)
        return {
            "torch __getitems__": _side(images, workload.batch_size, _as_it_is),
            "torch per item": _side(_Items(images), workload.batch_size, default_collate),
        }


class _Images(Dataset):
    def __init__(self, workload: Workload) -> None:
        self.columns = [torch.from_numpy(np.array(values)) for values in workload.arrays()]

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitems__(self, rows: list[int]) -> Batch:
        chosen = torch.tensor(rows)
        return tuple(column.index_select(0, chosen) for column in self.columns)


class _Items(Dataset):
    def __init__(self, images: _Images) -> None:
        self.columns = images.columns

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, row: int) -> Batch:
        return tuple(column[row] for column in self.columns)


class _Blobs(Dataset):
    def __init__(self, workload: Workload) -> None:
        self.blobs = [workload.blob(row) for row in range(workload.num_rows)]

    def __len__(self) -> int:
        return len(self.blobs)

    def __getitems__(self, rows: list[int]) -> Batch:
        return flat_batch([self.blobs[row] for row in rows])


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _side(rows: Dataset, batch_size: int, collate: object) -> Side:
    loader = DataLoader(rows, batch_size=batch_size, shuffle=True, collate_fn=collate)
    return lambda _: loader


if __name__ == "__main__":
    drive(TorchLoader())
