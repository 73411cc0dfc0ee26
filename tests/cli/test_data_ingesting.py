import gzip
import json
import sqlite3
import struct

import click
import numpy as np
import pytest

from shoal.cli import data_ingesting
from shoal.data import open as open_dataset


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
    assert found == {
        "dataset": made.address,
        "rows": 6,
        "shards": 1,
        "digest": made.digest,
        "refused": 0,
        "quarantine": None,
    }


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


@pytest.fixture
def rides(tmp_path):
    """A CSV file of 60 rides, one of which has no number of kilometres."""
    lines = [f"{number},{'Oslo' if number % 3 else 'Bergen'},{number / 10}" for number in range(60)]
    lines[41] = "41,Oslo,far"
    (tmp_path / "rides.csv").write_text("\n".join(["id,city,km", *lines]) + "\n")
    return tmp_path / "rides.csv"


def test_a_declared_type_names_the_line_that_breaks_it(shoal, rides):
    done = shoal("data", "ingest", rides, "rides", "--dtype", "km=float64")

    assert done.code == 1
    assert "line 43" in done.err
    assert "far" in done.err


def test_bad_rows_go_into_quarantine_and_the_rest_comes_in(shoal, rides):
    arguments = ("data", "ingest", rides, "rides", "--dtype", "km=float64", "--on-bad", "quarantine")

    found = json.loads(shoal(*arguments, "--json").out)

    kept = open_dataset("rides").quarantine
    assert (found["rows"], found["refused"], found["quarantine"]) == (59, 1, "rides-quarantine@1")
    assert kept.num_rows == 1
    assert shoal(*arguments).out.splitlines()[1] == "refused  1 row, kept in rides-quarantine@1"


def test_append_adds_rows_as_a_new_version(shoal, rides, tmp_path):
    shoal("data", "ingest", rides, "rides", "--key", "id")
    (tmp_path / "more.csv").write_text("id,city,km\n60,Oslo,far\n")

    found = json.loads(shoal("data", "ingest", "more.csv", "rides", "--append", "--json").out)

    assert found["dataset"].endswith("rides@2")
    assert found["rows"] == 61


def test_append_by_another_key_is_refused(shoal, rides):
    shoal("data", "ingest", rides, "rides", "--key", "id")

    done = shoal("data", "ingest", rides, "rides", "--append", "--key", "city")

    assert done.code == 1
    assert "reshard rides --key city" in done.err


def test_a_query_is_a_source(shoal, tmp_path):
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("create table sales (id integer, price real)")
        connection.executemany("insert into sales values (?, ?)", [(number, number / 2) for number in range(9)])
    connection.close()

    done = shoal("data", "ingest", "sqlite:///shop.db", "sales", "--query", "select * from sales where id > 3")

    assert done.code == 0, done.err
    assert sorted(open_dataset("sales").arrays()["id"]) == [4, 5, 6, 7, 8]


def test_a_query_takes_one_database(shoal):
    assert shoal("data", "ingest", "sqlite:///a.db", "sqlite:///b.db", "rows", "--query", "select 1").code == 1


def test_inferred_types_are_shown_for_a_yes_on_a_terminal(shoal, rides, monkeypatch):
    monkeypatch.setattr(data_ingesting, "_is_terminal", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda *_args, **_kwargs: False)

    done = shoal("data", "ingest", rides, "rides")

    assert done.code == 1
    assert "km: string" in done.err
    assert "--dtype" in done.err


def test_yes_asks_nothing(shoal, rides, monkeypatch):
    monkeypatch.setattr(data_ingesting, "_is_terminal", lambda: True)

    assert shoal("data", "ingest", rides, "rides", "--yes").code == 0


def test_append_with_evolve_brings_a_new_column(shoal, rides, tmp_path):
    shoal("data", "ingest", rides, "rides", "--key", "id")
    (tmp_path / "more.csv").write_text("id,city,km,tip\n60,Oslo,far,1.5\n")

    refused = shoal("data", "ingest", "more.csv", "rides", "--append")
    done = shoal("data", "ingest", "more.csv", "rides", "--append", "--evolve")

    assert refused.code == 1
    assert done.code == 0, done.err
    assert [column.name for column in open_dataset("rides").schema.columns] == ["id", "city", "km", "tip"]


def test_evolve_without_append_is_wrong_usage(shoal, rides):
    assert shoal("data", "ingest", rides, "rides", "--evolve").code == 2


def test_values_may_stand_between_tabs(shoal, tmp_path):
    (tmp_path / "rides.csv").write_text("id\tcity\n1\tOslo, Norway\n")

    done = shoal("data", "ingest", "rides.csv", "rides", "--delimiter", "tab")

    assert done.code == 0, done.err
    assert open_dataset("rides").row(0)["city"] == "Oslo, Norway"


def test_a_place_that_may_not_be_written_is_named(shoal, rides):
    done = shoal("data", "ingest", rides, rides / "below-a-file")

    assert done.code == 1
    assert "rides.csv" in done.err
    assert "\nnext   " in done.err
