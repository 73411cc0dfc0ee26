"""WebDataset: tar shards of raw bytes, shuffled by shard and by a buffer of rows, batched in the pipeline."""

from pathlib import Path
from typing import ClassVar

import webdataset
from driving import Batch, Side, Workload, drive, flat_batch, image_batch

NUM_SHARDS = 8
BUFFER_ROWS = {"A": 5_000, "B": 1_000, "C": 2_000}


class WebDataset:
    """Eight tars, so that two workers could share them; one process reads them."""

    settings: ClassVar[dict[str, str]] = {
        "all": f"{NUM_SHARDS} tars of raw bytes, 0 workers, collate by one join a batch",
        **{name: f"shuffle buffer of {rows} rows" for name, rows in BUFFER_ROWS.items()},
    }

    def write(self, workload: Workload, folder: Path) -> None:
        """Rows go to the shards one after the other, without compression."""
        per_shard = -(-workload.num_rows // NUM_SHARDS)
        with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=per_shard, maxsize=1 << 40, verbose=0) as writer:
            for number, row in enumerate(workload.rows()):
                data = row[0] if workload.name == "C" else row[0].tobytes()
                label = {"cls": str(row[1]).encode()} if workload.name == "A" else {}
                writer.write({"__key__": f"{number:08d}", "bin": data, **label})

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """The pipeline as a WebLoader without workers."""
        paths = sorted(str(path) for path in folder.glob("*.tar"))
        shape = () if workload.name == "C" else workload.images.shape[1:]

        def batch_of(rows: list[dict]) -> Batch:
            data = [row["bin"] for row in rows]
            if workload.name == "C":
                return flat_batch(data)
            return image_batch(data, shape, [int(row["cls"]) for row in rows if "cls" in row])

        pipeline = (
            webdataset.WebDataset(paths, shardshuffle=NUM_SHARDS, empty_check=False)
            .shuffle(BUFFER_ROWS[workload.name])
            .batched(workload.batch_size, collation_fn=batch_of, partial=True)
        )
        return {"webdataset": lambda _: pipeline}


if __name__ == "__main__":
    drive(WebDataset())
