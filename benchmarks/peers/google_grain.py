"""Grain: an ArrayRecord file with one record a group; a shuffled range of row numbers, read a batch at a time.

Batching the numbers first and reading them by one `__getitems__` was 3 to 9 times faster than batching the rows.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from driving import Batch, Side, Workload, drive


class Grain:
    """Records of raw bytes, for A with the label as the last byte; NumPy batches, its native form."""

    settings: ClassVar[dict[str, str]] = {
        "all": "ArrayRecord group_size:1 uncompressed, batched __getitems__, 2 reading threads, NumPy batches"
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Rows one by one through ArrayRecordWriter."""
        writer = ArrayRecordWriter(str(folder / "rows.arrayrecord"), "group_size:1,uncompressed")
        for row in workload.rows():
            data = row[0] if workload.name == "C" else row[0].tobytes()
            writer.write(data + bytes([row[1]]) if workload.name == "A" else data)
        writer.close()

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """A MapDataset of row numbers, iterated by threads."""
        source = grain.sources.ArrayRecordDataSource(str(folder / "rows.arrayrecord"))
        shape = () if workload.name == "C" else workload.images.shape[1:]

        def read(epoch: int) -> Iterable[Batch]:
            return (
                grain.MapDataset.range(workload.num_rows)
                .shuffle(seed=epoch)
                .batch(workload.batch_size, batch_fn=list)
                .map(lambda rows: _batch(workload.name, shape, source.__getitems__(rows)))
                .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
            )

        return {"grain": read}


def _batch(name: str, shape: tuple[int, ...], records: list[bytes]) -> Batch:
    flat = np.frombuffer(b"".join(records), np.uint8)
    if name == "C":
        return flat, np.cumsum([0, *map(len, records)])
    rows = flat.reshape(len(records), -1)
    if name == "A":
        return rows[:, :-1].reshape(-1, *shape), rows[:, -1].astype(np.int64)
    return (rows.reshape(-1, *shape),)


if __name__ == "__main__":
    drive(Grain())
