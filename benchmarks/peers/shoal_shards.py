"""Shoal alone, the same rows in 1, 8, 128 and 1,024 shards."""

from functools import partial
from pathlib import Path
from typing import ClassVar

from driving import Side, Workload, drive
from shoal_dataset import COLUMNS, epoch_of, source_of

import shoal.data

COUNTS = (1, 8, 128, 1_024)


class ShoalShards:
    """One dataset for each number of shards."""

    settings: ClassVar[dict[str, str]] = {"all": "num_shards as named, else defaults"}

    def write(self, workload: Workload, folder: Path) -> None:
        """Ingest four times."""
        for count in COUNTS:
            shoal.data.ingest(source_of(workload), folder / str(count), num_shards=count)

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """A loader of each."""
        loaders = {
            f"{count} shards": shoal.data.open(folder / str(count)).loader(batch_size=workload.batch_size, shuffle=True)
            for count in COUNTS
        }
        return {name: partial(epoch_of, loader, COLUMNS[workload.name]) for name, loader in loaders.items()}


if __name__ == "__main__":
    drive(ShoalShards())
