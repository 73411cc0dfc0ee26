import json

from shoal.data import open as open_dataset


def test_sample_gives_an_address_that_opens_the_same_rows(shoal, dataset):
    found = json.loads(shoal("data", "sample", dataset.path, 0.1, "--by", "label", "--json").out)

    assert found["rows"] == open_dataset(found["dataset"]).num_rows == round(found["of"] * 0.1)


def test_sample_to_a_folder_is_a_dataset_of_its_own(shoal, dataset, tmp_path):
    done = shoal("data", "sample", dataset.path, 25, "--to", "small")

    made = open_dataset(tmp_path / "small")
    assert done.code == 0, done.err
    assert made.num_rows == 25
    assert set(made.arrays()["id"]) <= set(dataset.arrays()["id"])


def test_reshard_keeps_the_rows(shoal, parquet, tmp_path):
    shoal("data", "ingest", parquet, "rows", "--key", "id")

    done = shoal("data", "reshard", "rows", "--num-shards", 3)

    made = open_dataset(tmp_path / "rows")
    assert done.code == 0
    assert (made.version, made.num_rows, len(made.shards)) == (2, 6, 3)
    assert "in 3 shards, 1 before" in done.out


def test_repair_brings_a_damaged_shard_back_from_the_mirror(shoal, parquet, tmp_path):
    shoal("data", "ingest", parquet, "rows")
    assert shoal("data", "mirror", "rows", "copy").code == 0
    (shard,) = (tmp_path / "rows" / "shards").iterdir()
    whole = shard.read_bytes()
    shard.chmod(0o644)
    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])

    found = json.loads(shoal("data", "repair", "rows", "--json").out)

    assert found["restored"] == [f"shards/{shard.name}"]
    assert shard.read_bytes() == whole
    assert shoal("data", "verify", "rows").code == 0


def test_repair_without_a_copy_names_the_next_step(shoal, parquet, tmp_path):
    shoal("data", "ingest", parquet, "rows")
    (shard,) = (tmp_path / "rows" / "shards").iterdir()
    shard.unlink()

    done = shoal("data", "repair", "rows")

    assert done.code == 1
    assert "\nnext   " in done.err


def test_gc_lists_first_and_deletes_with_yes(shoal, parquet, tmp_path):
    shoal("data", "ingest", parquet, "rows", "--key", "id")
    shoal("data", "reshard", "rows", "--num-shards", 3)

    plan = shoal("data", "gc", "rows", "--keep-versions", 1)
    before = sorted((tmp_path / "rows").rglob("*.*"))
    done = shoal("data", "gc", "rows", "--keep-versions", 1, "--yes")

    assert plan.out.startswith("would delete  version 1, ")
    assert plan.out.endswith("next  shoal data gc rows --yes --keep-versions 1\n")
    assert done.out.startswith("deleted  version 1, ")
    assert len(sorted((tmp_path / "rows").rglob("*.*"))) < len(before)
    assert open_dataset(tmp_path / "rows").num_rows == 6


def test_repair_mends_a_dataset_whose_newest_version_cannot_be_opened(shoal, parquet, tmp_path):
    shoal("data", "ingest", parquet, "rows")
    shoal("data", "mirror", "rows", "copy")
    (tmp_path / "rows" / "versions" / "000001.json").write_text("{}")

    refused, done = shoal("data", "show", "rows"), shoal("data", "repair", "rows")

    assert refused.code == 1
    assert "shoal.data.repair" in refused.err
    assert done.code == 0, done.err
    assert "versions/000001.json" in done.out
