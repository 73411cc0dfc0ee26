from pathlib import Path

import numpy as np
import pytest

from shoal.data import ingest
from shoal.data.sampling import stored_rows
from shoal.data.sampling.stored_rows import StoredRows


@pytest.fixture(params=[7, 65_536])
def block_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(stored_rows, "BLOCK_ROWS", request.param)
    return int(request.param)


def rows_of(folder: Path, users: list[int], **options: object) -> StoredRows:
    source = {"user": np.array(users), "n": np.arange(len(users))}
    dataset = ingest(source, folder, key="user", **options)  # type: ignore[arg-type]
    files = [dataset.open_shard(shard) for shard in dataset.shards]
    return StoredRows([(file, 0, file.shard.num_rows) for file in files], dataset.schema)


def test_rows_of_one_key_have_draws_of_their_own_wherever_blocks_end(tmp_path: Path, block_rows: int) -> None:
    rows = rows_of(tmp_path / "users", [1] * 40 + [2] * 25 + [3], num_shards=1)

    draws = np.concatenate([block.draws(5) for block in rows.blocks()])
    hashes = np.concatenate([block.hashes() for block in rows.blocks()])

    assert (len(np.unique(hashes)), len(np.unique(draws))) == (3, 66)
    assert np.array_equal(draws, np.concatenate([block.draws(5) for block in rows.blocks()]))


def test_how_rows_are_cut_does_not_change_their_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(tmp_path / "users", [1] * 40 + [2] * 25 + [3], num_shards=1)
    whole = np.concatenate([block.draws(5) for block in rows.blocks()])

    monkeypatch.setattr(stored_rows, "BLOCK_ROWS", 9)

    assert np.array_equal(np.concatenate([block.draws(5) for block in rows.blocks()]), whole)


def test_blocks_give_all_rows_in_order(tmp_path: Path, block_rows: int) -> None:
    rows = rows_of(tmp_path / "users", list(range(50)), num_shards=3)
    schema = rows.schema.select(["n"])

    values = [block.batch(schema).column(0).to_numpy() for block in rows.blocks()]

    assert sorted(np.concatenate(values).tolist()) == list(range(50))
    assert [block.first for block in rows.blocks()] == np.cumsum([0, *map(len, values)])[:-1].tolist()
