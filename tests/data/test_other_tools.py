"""Shards are plain Arrow files: what other tools read from them, and what trainers get through `as_torch`."""

import warnings

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.dataset
import pytest
import torch
from torch.utils.data import DataLoader

from shoal.data import ingest


@pytest.fixture
def dataset(tmp_path):
    rows = pa.table(
        {
            "id": pa.array(range(500)),
            "name": pa.array([f"row {number}" if number % 7 else None for number in range(500)]),
            "size": pa.array(np.linspace(0, 1, 500), pa.float32()),
        }
    )
    return ingest(rows, tmp_path / "rows", key="id", num_shards=4)


@pytest.fixture
def shards(dataset):
    return [str(dataset.shard_path(shard)) for shard in dataset.shards]


def test_pyarrow_opens_the_shards(shards):
    table = pa.dataset.dataset(shards, format="ipc").to_table(columns=["id", "name"])

    assert sorted(table["id"].to_pylist()) == list(range(500))
    assert table["name"].null_count == 72


def test_polars_opens_the_shards(shards):
    frame = polars.read_ipc(shards)

    assert frame["id"].sum() == sum(range(500))
    assert frame["name"].null_count() == 72


def test_duckdb_queries_the_shards(shards):
    rows = pa.dataset.dataset(shards, format="ipc")

    found = duckdb.sql("select count(*), count(name), max(id) from rows where id >= 100").fetchall()

    assert rows.count_rows() == 500
    assert found == [(400, 400 - 57, 499)]


def test_duckdb_and_polars_take_the_dataset_itself(dataset):
    part = dataset.split(0.5, 0.5)[0]

    assert duckdb.sql("select count(*) from part").fetchall() == [(part.num_rows,)]
    assert polars.DataFrame(part).height == part.num_rows


@pytest.mark.slow
def test_lightning_gets_the_loaders_batches(dataset):
    seen = []
    with warnings.catch_warnings():
        # Lightning's own: of a deprecated call in torch, and that an IterableDataset has a length.
        warnings.simplefilter("ignore")
        import pytorch_lightning as lightning

        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        batches = dataset.as_torch(batch_size=64, shuffle=True, seed=3, columns=["id", "size"])
        trainer.fit(_watching(lightning.LightningModule, seen), DataLoader(batches, batch_size=None))

    loader = dataset.loader(batch_size=64, shuffle=True, seed=3, columns=["id"])
    assert seen == [batch["id"].tolist() for _ in range(2) for batch in loader]


@pytest.mark.slow
def test_accelerate_gets_the_loaders_batches(dataset):
    from accelerate import Accelerator

    batches = dataset.as_torch(batch_size=64, shuffle=True, seed=3, columns=["id"])
    prepared = Accelerator(cpu=True).prepare(DataLoader(batches, batch_size=None))

    seen = [batch["id"].tolist() for _ in range(2) for batch in prepared]

    loader = dataset.loader(batch_size=64, shuffle=True, seed=3, columns=["id"])
    assert seen == [batch["id"].tolist() for _ in range(2) for batch in loader]


def _watching(module, seen):
    class Watching(module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, _):
            seen.append(batch["id"].tolist())
            return (batch["size"] * self.weight).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Watching()
