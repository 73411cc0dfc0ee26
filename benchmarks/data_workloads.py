"""The files that every peer starts from: made once from Fashion-MNIST and from seeded random numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data_environments import BENCH

from shoal.data import IdxSource

SEED = 7
CITIES = ["Bremen", "Kiel", "Emden", "Husum", "Stralsund", "Rostock", "Wismar", "Cuxhaven"]


@dataclass(frozen=True)
class Sizes:
    """Rows of each workload, and where its files lie: quick runs have smaller ones elsewhere."""

    folder: Path
    rows: dict[str, int]
    table_rows: int
    # More than one sorted run holds, so that the smaller of the two sizes has the memory of a large one.
    memory_rows: int
    many_rows: int


FULL = Sizes(BENCH / "data", {"A": 60_000, "B": 4_000, "C": 20_000}, 2_000_000, 600_000, 10_000_000)
QUICK = Sizes(BENCH / "quick", {"A": 20_000, "B": 400, "C": 2_000}, 50_000, 20_000, 1_000_000)


def make_workloads(sizes: Sizes) -> dict[str, Path]:
    """Return the folder of each workload, with its .npy files in it."""
    made = {}
    for name, rows in sizes.rows.items():
        folder = made[name] = sizes.folder / "workloads" / name
        done = folder / "done"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            for file, values in _arrays(name, rows).items():
                np.save(folder / f"{file}.npy", values)
            done.touch()
    return made


def make_tables(sizes: Sizes) -> dict[str, Path]:
    """Return one table of ten mixed columns as CSV, JSONL and Parquet."""
    import polars as pl
    import pyarrow.csv
    import pyarrow.parquet

    folder = sizes.folder / "tables"
    paths = {suffix: folder / f"rows.{suffix}" for suffix in ("csv", "jsonl", "parquet")}
    done = folder / "done"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        table = pl.DataFrame(_columns(sizes.table_rows)).to_arrow()
        pyarrow.csv.write_csv(table, paths["csv"])
        # The row groups and the compression that pyarrow chooses by itself.
        pyarrow.parquet.write_table(table, paths["parquet"])
        pl.from_arrow(table).write_ndjson(paths["jsonl"])
        done.touch()
    return paths


def _arrays(name: str, rows: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(SEED)
    if name == "A":
        batches = list(IdxSource.fashion_mnist(max_rows=rows).record_batches())
        images = np.concatenate([batch.column("image").to_numpy_ndarray() for batch in batches])
        return {"images": images, "labels": np.concatenate([batch.column("label").to_numpy() for batch in batches])}
    if name == "B":
        return {"images": random.integers(0, 256, (rows, 3, 224, 224), dtype=np.uint8)}
    offsets = np.concatenate([[0], np.cumsum(random.integers(5_000, 60_001, rows))])
    return {"blobs": np.frombuffer(random.bytes(int(offsets[-1])), np.uint8), "offsets": offsets}


def _columns(rows: int) -> dict[str, object]:
    random = np.random.default_rng(SEED)
    ages = random.integers(0, 100, rows)
    return {
        "id": np.arange(rows),
        "age": ages,
        "amount": random.normal(100, 30, rows).round(2),
        "score": random.random(rows),
        "clicks": random.integers(0, 1_000_000, rows),
        "is_new": random.random(rows) < 0.3,
        "city": np.array(CITIES)[random.integers(0, len(CITIES), rows)],
        "session": np.char.add("s", random.integers(0, 10**9, rows).astype(str)),
        "income": [None if age < 5 else value for age, value in zip(ages, random.normal(3e4, 5e3, rows), strict=True)],
        "referrer": np.char.add("https://shop.example/", random.integers(0, 5_000, rows).astype(str)),
    }
