import json

from shoal.data import open as open_dataset


def test_shows_columns_and_sources(shoal, parquet):
    shoal("data", "ingest", parquet, "rows")

    done = shoal("data", "show", "rows@1")

    assert "rows@1" in done.out
    assert f"source     {parquet}  6 rows" in done.out
    assert "size    float64" in done.out
    assert done.out.endswith("next  shoal data verify rows@1\n")


def test_show_as_json_has_schema_shards_and_sources(shoal, parquet):
    shoal("data", "ingest", parquet, "rows")

    found = json.loads(shoal("data", "show", "rows", "--json").out)

    assert set(found) >= {"dataset", "digest", "rows", "key", "schema", "shards", "sources", "balance", "history"}
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


def test_show_fits_history_and_balance_on_one_screen(shoal, parquet):
    shoal("data", "ingest", parquet, "rows", "--key", "id")
    shoal("data", "reshard", "rows", "--num-shards", 2)

    lines = shoal("data", "show", "rows").out.splitlines()

    assert len(lines) < 24
    assert any(line.startswith("balance") for line in lines)
    assert [line.split()[3] for line in lines[-3:-1]] == ["ingest", "reshard"]


def test_diff_tells_what_an_append_added(shoal, parquet):
    shoal("data", "ingest", parquet, "rows", "--key", "id")
    shoal("data", "ingest", parquet, "rows", "--append", "--num-shards", 2)

    found = json.loads(shoal("data", "diff", "rows@1", "rows@2", "--json").out)

    assert (found["rows_added"], found["rows_removed"]) == (6, 0)
    assert "rows added    6" in shoal("data", "diff", "rows@1", "rows@2").out


def test_split_by_time_keeps_the_order(shoal, dataset):
    found = json.loads(shoal("data", "split", dataset.path, "--time", "id", "--at", 100, "--json").out)

    early, late = (open_dataset(part["dataset"]).arrays(["id"])["id"] for part in found)
    assert early.max() == 99
    assert late.min() == 100


def test_split_by_a_group_keeps_it_together(shoal, dataset):
    found = json.loads(shoal("data", "split", dataset.path, 0.5, 0.5, "--by", "label", "--json").out)

    first, second = (set(open_dataset(part["dataset"]).arrays(["label"])["label"]) for part in found)
    assert not first & second


def test_two_ways_to_split_are_wrong_usage(shoal, dataset):
    assert shoal("data", "split", dataset.path, 0.5, "--by", "label", "--time", "id").code == 2
    assert shoal("data", "split", dataset.path, "--at", 3).code == 2
