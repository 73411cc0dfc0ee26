import gzip
import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from shoal.data import open as open_dataset


@pytest.fixture
def table(tmp_path):
    """Six rows, one of which lacks its name."""
    return pa.table({"id": range(6), "size": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0], "name": ["a", None, "c", "d", "e", "f"]})


@pytest.fixture
def parquet(table, tmp_path):
    pa.parquet.write_table(table, tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def write_idx(path, values):
    kind = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(kind + values.tobytes()))


def test_ingests_parquet(shoal, parquet, tmp_path):
    done = shoal("data", "ingest", parquet, "rows", "--key", "id", "--num-shards", 2)

    made = open_dataset(tmp_path / "rows")
    assert done.code == 0
    assert (made.num_rows, made.key, len(made.shards)) == (6, "id", 2)
    assert done.out.endswith("6 rows in 2 shards\nnext  shoal data show rows\n")


def test_ingests_several_files_in_their_order(shoal, parquet, tmp_path):
    (tmp_path / "more.csv").write_text("id,size,name\n6,3.5,g\n")

    found = json.loads(shoal("data", "ingest", parquet, "more.csv", "rows", "--json").out)

    assert found["rows"] == 7
    assert [source.num_rows for source in open_dataset(tmp_path / "rows").sources] == [6, 1]


def test_ingest_as_json_tells_address_and_digest(shoal, parquet, tmp_path):
    found = json.loads(shoal("data", "ingest", parquet, "rows", "--json").out)

    made = open_dataset(tmp_path / "rows")
    assert found == {"dataset": made.address, "rows": 6, "shards": 1, "digest": made.digest}


def test_pairs_idx_files_by_what_they_hold_not_by_their_places(shoal, tmp_path):
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    for part in ("a", "b"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", images[:, 0, 0])
    files = sorted(tmp_path.glob("*-ubyte.gz"), reverse=True)

    done = shoal("data", "ingest", *files, "images")

    found = open_dataset(tmp_path / "images").arrays()
    assert done.code == 0
    assert found["image"].shape == (10, 2, 2)
    np.testing.assert_array_equal(found["image"][:, 0, 0], found["label"])


def test_an_unreadable_source_fails_with_the_next_step(shoal, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"no parquet")

    done = shoal("data", "ingest", "rows.parquet", "rows")

    assert done.code == 1
    assert "rows.parquet" in done.err
    assert "\nnext   " in done.err
    assert done.out == ""
    assert not (tmp_path / "rows" / "versions").exists()


def test_a_missing_argument_is_wrong_usage(shoal):
    assert shoal("data", "ingest", "rows").code == 2


def test_shows_columns_and_sources(shoal, parquet):
    shoal("data", "ingest", parquet, "rows")

    done = shoal("data", "show", "rows@1")

    assert "rows@1" in done.out
    assert f"source   {parquet}  6 rows" in done.out
    assert "size    float64" in done.out
    assert done.out.endswith("next  shoal data verify rows@1\n")


def test_show_as_json_has_schema_shards_and_sources(shoal, parquet):
    shoal("data", "ingest", parquet, "rows")

    found = json.loads(shoal("data", "show", "rows", "--json").out)

    assert set(found) == {"dataset", "digest", "rows", "schema", "shards", "sources"}
    assert [column["name"] for column in found["schema"]] == ["id", "size", "name"]
    assert found["schema"][2]["nullable"] is True
    assert sum(shard["num_rows"] for shard in found["shards"]) == found["rows"] == 6
    assert found["sources"][0]["path"] == str(parquet)


def test_cat_prints_one_document_a_row(shoal, parquet, table):
    shoal("data", "ingest", parquet, "rows")

    lines = shoal("data", "cat", "rows", "--rows", 100).out.splitlines()

    found = sorted((json.loads(line) for line in lines), key=lambda row: row["id"])
    assert found == table.to_pylist()
    assert lines[0].startswith('{"id":')


def test_cat_stops_after_the_rows_asked_for(shoal, dataset):
    found = json.loads(shoal("data", "cat", dataset.path, "--rows", 2, "--json").out)

    assert [row["id"] for row in found] == dataset.arrays()["id"][:2].tolist()
    assert len(found[0]["x"]) == 8


def test_verify_says_that_all_is_whole(shoal, dataset):
    found = json.loads(shoal("data", "verify", dataset.path, "--json").out)

    assert found == {"dataset": dataset.address, "shards": 2, "whole": True}


def test_verify_finds_a_changed_byte(shoal, parquet, tmp_path):
    shoal("data", "ingest", parquet, "rows")
    (shard,) = (tmp_path / "rows" / "shards").iterdir()
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)

    done = shoal("data", "verify", "rows")

    assert done.code == 1
    assert shard.name in done.err
    assert "\nnext   " in done.err


def test_profile_shows_statistics(shoal, parquet):
    shoal("data", "ingest", parquet, "rows")

    lines = shoal("data", "profile", "rows").out.splitlines()

    assert [line.split() for line in lines[2:]] == [
        ["name", "5", "1", "-", "-", "-"],
        ["size", "6", "0", "0.5", "1.75", "3"],
    ]


def test_profile_as_json_has_numbers(shoal, parquet):
    shoal("data", "ingest", parquet, "rows")

    found = json.loads(shoal("data", "profile", "rows", "--json").out)

    assert found[1:] == [
        {"column": "name", "count": 5, "nulls": 1, "minimum": None, "mean": None, "maximum": None},
        {"column": "size", "count": 6, "nulls": 0, "minimum": 0.5, "mean": 1.75, "maximum": 3.0},
    ]


def test_split_gives_addresses_that_other_commands_take(shoal, dataset):
    found = json.loads(shoal("data", "split", dataset.path, 0.75, 0.25, "--json").out)

    shown = [json.loads(shoal("data", "show", part["dataset"], "--json").out) for part in found]
    assert [part["fraction"] for part in found] == [0.75, 0.25]
    assert [part["rows"] for part in found] == [part["rows"] for part in shown]
    assert sum(part["rows"] for part in shown) == dataset.num_rows


def test_split_beyond_the_whole_fails_with_an_example(shoal, dataset):
    done = shoal("data", "split", dataset.path, 0.8, 0.4)

    assert done.code == 1
    assert "split(0.8, 0.1, 0.1)" in done.err


def test_a_missing_dataset_fails_with_the_next_step(shoal):
    done = shoal("data", "show", "nowhere")

    assert done.code == 1
    assert "nowhere" in done.err
    assert "\nnext   " in done.err
