"""LitData: chunks of raw bytes made by `optimize`, read by its own streaming loader in this process.

Its default shuffles blocks of 256 neighbours and hands out nearly stored batches; here a chunk is shuffled whole, with
the way of decoding that was fastest for that. Two workers were slower than none on every workload.
"""

from functools import partial
from pathlib import Path
from typing import ClassVar

from driving import Batch, Side, Workload, drive, flat_batch, image_batch
from litdata import StreamingDataLoader, StreamingDataset, optimize

CHUNK_BYTES = {"A": "64MB", "B": "256MB", "C": "64MB"}
DECODED_TOGETHER = {"A": "all", "B": 0, "C": 0}


class LitData:
    """Chunks made by two processes, read in one."""

    settings: ClassVar[dict[str, str]] = {
        "all": "bytes, 0 workers, item_shuffle_window='full', collate by one join a batch",
        "A": "chunks of 64 MB, batch_decode='all'",
        "B": "chunks of 256 MB, batch_decode=0",
        "C": "chunks of 64 MB, batch_decode=0",
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Let `optimize` fork two writers over the row numbers; the arrays are inherited, not sent."""
        optimize(
            fn=partial(_row, workload),
            inputs=list(range(workload.num_rows)),
            output_dir=str(folder),
            chunk_bytes=CHUNK_BYTES[workload.name],
            num_workers=2,
            start_method="fork",
            verbose=False,
        )

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """One StreamingDataLoader."""
        dataset = StreamingDataset(
            str(folder), shuffle=True, item_shuffle_window="full", batch_decode=DECODED_TOGETHER[workload.name]
        )
        loader = StreamingDataLoader(
            dataset,
            batch_size=workload.batch_size,
            num_workers=0,
            collate_fn=_collate_blobs if workload.name == "C" else partial(_collate_images, workload.images.shape[1:]),
        )
        return {"litdata": lambda _: loader}


def _row(workload: Workload, row: int) -> dict[str, object]:
    if workload.name == "C":
        return {"blob": workload.blob(row)}
    label = {"label": int(workload.labels[row])} if workload.name == "A" else {}
    return {"image": workload.images[row].tobytes(), **label}


def _collate_images(shape: tuple[int, ...], rows: list[dict]) -> Batch:
    return image_batch([row["image"] for row in rows], shape, [row["label"] for row in rows if "label" in row])


def _collate_blobs(rows: list[dict]) -> Batch:
    return flat_batch([row["blob"] for row in rows])


if __name__ == "__main__":
    drive(LitData())
