"""Ray Data: Parquet files, shuffled by a local buffer of rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet
import ray
import torch
from driving import Batch, Side, Workload, drive, flat_batch

NUM_FILES = 8
STORE_BYTES = 3 << 30  # B and C fit, with what their shuffling holds
BUFFER_ROWS = {"A": 5_000, "B": 1_000, "C": 2_000}


class RayData:
    """Tensor columns as Ray reads them natively, batched by Ray itself."""

    settings: ClassVar[dict[str, str]] = {
        "all": f"{NUM_FILES} uncompressed Parquet files of tensor columns, iter_batches in NumPy (C: Arrow) form, "
        "read anew each epoch; and materialised in the object store, which is memory, before the clock starts",
        **{name: f"local shuffle buffer of {rows} rows" for name, rows in BUFFER_ROWS.items()},
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Write the files by pyarrow: Ray's own writer would do that too, after copying the rows to its workers."""
        per_file = -(-workload.num_rows // NUM_FILES)
        for number in range(NUM_FILES):
            rows = slice(number * per_file, min((number + 1) * per_file, workload.num_rows))
            if workload.name == "C":
                columns = {"data": pa.array([workload.blob(row) for row in range(rows.start, rows.stop)])}
            else:
                columns = {"data": pa.FixedShapeTensorArray.from_numpy_ndarray(workload.images[rows])}
            if workload.name == "A":
                columns["label"] = pa.array(workload.labels[rows])
            path = folder / f"{number:02d}.parquet"
            pyarrow.parquet.write_table(pa.table(columns), path, compression="none", use_dictionary=False)

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """The rows from the files, and from memory."""
        if not ray.is_initialized():
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=STORE_BYTES)
            ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.read_parquet(str(folder))
        return {"ray data": _side(rows, workload), "ray data in memory": _side(rows.materialize(), workload)}


def _side(rows: ray.data.Dataset, workload: Workload) -> Side:
    def read(epoch: int) -> Iterator[Batch]:
        chosen = {
            "batch_size": workload.batch_size,
            "local_shuffle_buffer_size": BUFFER_ROWS[workload.name],
            "local_shuffle_seed": epoch,
        }
        if workload.name == "C":
            for table in rows.iter_batches(batch_format="pyarrow", **chosen):
                yield flat_batch(table["data"].to_pylist())
        else:
            for batch in rows.iter_batches(batch_format="numpy", **chosen):
                yield tuple(torch.from_numpy(values) for values in batch.values())

    return read


if __name__ == "__main__":
    drive(RayData())
