"""tf.data: records of raw bytes, shuffled by a buffer of records, decoded a batch at a time."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf
from driving import Batch, Side, Workload, drive

BUFFER_ROWS = {"A": 5_000, "B": 1_000, "C": 2_000}
READ_BYTES = 8 << 20


class TensorFlowData:
    """Fixed-length records where the rows have one size: TFRecord costs a checksum and an allocation a row."""

    settings: ClassVar[dict[str, str]] = {
        "all": "A, B: fixed-length records, C: TFRecord; decoded by decode_raw a batch at a time, 2 parallel calls, "
        "prefetch, as_numpy_iterator",
        **{name: f"shuffle buffer of {rows} rows" for name, rows in BUFFER_ROWS.items()},
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """One file; the label of A is the last byte of its record."""
        if workload.name == "C":
            with tf.io.TFRecordWriter(str(folder / "rows")) as writer:
                for row in range(workload.num_rows):
                    writer.write(workload.blob(row))
            return
        with (folder / "rows").open("wb") as file:
            for row in workload.rows():
                file.write(row[0].tobytes() + bytes(row[1:]))

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """One pipeline."""
        path = str(folder / "rows")
        if workload.name == "C":
            rows = tf.data.TFRecordDataset(path, buffer_size=READ_BYTES)
        else:
            record_bytes = workload.images[0].nbytes + (workload.name == "A")
            rows = tf.data.FixedLengthRecordDataset(path, record_bytes, buffer_size=READ_BYTES)
        batches = (
            rows.shuffle(BUFFER_ROWS[workload.name])
            .batch(workload.batch_size)
            .map(_decoder(workload), num_parallel_calls=2)
            .prefetch(2)
        )
        return {"tf.data": lambda _: _blobs(batches) if workload.name == "C" else batches.as_numpy_iterator()}


def _decoder(workload: Workload) -> Callable:
    if workload.name == "C":
        return lambda rows: (tf.strings.reduce_join(rows), tf.concat([[0], tf.cumsum(tf.strings.length(rows))], 0))
    shape, size = (-1, *workload.images.shape[1:]), workload.images[0].nbytes

    def decode(rows: tf.Tensor) -> tuple:
        values = tf.io.decode_raw(rows, tf.uint8)
        if workload.name == "B":
            return (tf.reshape(values, shape),)
        return tf.reshape(values[:, :size], shape), tf.cast(values[:, size], tf.int64)

    return decode


def _blobs(batches: tf.data.Dataset) -> Iterator[Batch]:
    for joined, offsets in batches.as_numpy_iterator():
        yield np.frombuffer(joined, np.uint8), offsets


if __name__ == "__main__":
    drive(TensorFlowData())
