"""The loop that people write: Parquet in batches through ONNX Runtime into Parquet, each process a share of the files.

`predict_loop.py MODEL FOLDER OUT BATCH_SIZE PROCESSES`; nothing in it survives a kill.
"""

import multiprocessing
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

SIDE = 28


def predict(model: str, files: list[Path], out: Path, batch_size: int) -> None:
    """Predict some files, each into a file of the same name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for path in files:
        writer = None
        for batch in pq.ParquetFile(path).iter_batches(batch_size):
            pixels = batch.column("image").values.to_numpy().reshape(-1, SIDE, SIDE)
            scores = session.run(None, {"image": pixels})[0]
            columns = [batch.column("id"), pa.FixedSizeListArray.from_arrays(np.ravel(scores), scores.shape[1])]
            table = pa.table(columns, names=["id", "scores"])
            writer = writer or pq.ParquetWriter(out / path.name, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def main() -> None:
    """Give each process its share of the files."""
    model, folder, out, batch_size, processes = sys.argv[1:]
    files = sorted(Path(folder).glob("*.parquet"))
    shares = [files[number :: int(processes)] for number in range(int(processes))]
    Path(out).mkdir()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=predict, args=(model, share, Path(out), int(batch_size))) for share in shares[1:]]
    for worker in workers:
        worker.start()
    predict(model, shares[0], Path(out), int(batch_size))
    for worker in workers:
        worker.join()
    sys.exit(any(worker.exitcode for worker in workers))


if __name__ == "__main__":
    main()
