import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import ConflictError, CorruptError, InputError, NotFoundError, UnsupportedError, decode
from shoal.data import Dataset, ingest
from shoal.data.storage.seal import sealed
from shoal.data.versions import manifest as manifest_module
from shoal.data.versions.manifest import (
    SNAPSHOT_EVERY,
    Manifest,
    base_of,
    find_content,
    load_history,
    load_manifest,
    manifest_path,
    publish,
    version_numbers,
    write_whole,
)

Rows = dict[str, np.ndarray]


def test_reads_what_was_published(dataset: Dataset) -> None:
    assert load_manifest(dataset.path) == dataset.manifest
    assert load_manifest(dataset.path, 1) == dataset.manifest


def test_a_missing_dataset_and_a_missing_version_are_told_apart(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset in this folder"):
        load_manifest(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="clicks@7: its versions are 1 to 1"):
        load_manifest(dataset.path, 7)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}'])
def test_a_damaged_file_is_named(dataset: Dataset, text: str) -> None:
    path = dataset.path / "versions" / "000001.json"
    path.write_text(text)

    with pytest.raises(CorruptError, match=r"000001\.json"):
        load_manifest(dataset.path)


def test_an_edited_file_is_refused(dataset: Dataset) -> None:
    path = dataset.path / "versions" / "000001.json"
    path.write_text(path.read_text().replace('"weight"', '"height"'))

    with pytest.raises(CorruptError, match="was changed"):
        load_manifest(dataset.path)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, make_rows: Callable[..., Rows]) -> Dataset:
    """Two versions, the second of which is a delta."""
    first = ingest(make_rows(60), tmp_path_factory.mktemp("grown") / "clicks", num_shards=3)
    return first.append(make_rows(10, seed=1), num_shards=1)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_in_any_version_is_found(grown: Dataset, data: st.DataObject) -> None:
    path = manifest_path(grown.path, data.draw(st.sampled_from([1, 2])))
    whole = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(whole)
    flipped[at] ^= 1 << bit

    path.write_bytes(flipped)
    try:
        with pytest.raises(CorruptError, match=path.name):
            load_manifest(grown.path, 2)
    finally:
        path.write_bytes(whole)


def rewrite(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change a version's file and seal it anew, as someone who means harm would."""
    fields = json.loads(path.read_text())
    del fields["seal"]
    change(fields)
    path.write_bytes(sealed(fields))


@pytest.mark.parametrize(
    "name", ["b3:../../../etc/passwd", "../x", "b3:/etc/passwd", "b3:" + "g" * 64, "b3:" + "a" * 63]
)
@pytest.mark.parametrize("field", ["shard", "profile", "preparation"])
def test_a_name_that_climbs_out_of_the_folder_is_refused(dataset: Dataset, name: str, field: str) -> None:
    def climb(fields: dict) -> None:
        if field == "shard":
            fields["shards"][0]["digest"] = name
        else:
            fields[field] = name

    rewrite(manifest_path(dataset.path, 1), climb)

    with pytest.raises(CorruptError, match="could name a file outside"):
        load_manifest(dataset.path)


def test_a_quarantine_that_is_elsewhere_is_refused(dataset: Dataset) -> None:
    rewrite(manifest_path(dataset.path, 1), lambda fields: fields.update(quarantine="../../elsewhere@1"))

    with pytest.raises(CorruptError, match="not a folder beside"):
        load_manifest(dataset.path)


def test_a_climbing_name_is_never_published(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="could name a file outside"):
        publish(dataset.path, lambda newest: replace(newest, version=2, profile="../x"))

    assert version_numbers(dataset.path) == [1]


def test_other_shards_than_the_digest_names_are_refused(dataset: Dataset) -> None:
    rewrite(manifest_path(dataset.path, 1), lambda fields: fields["shards"].pop())

    with pytest.raises(CorruptError, match="its content has the digest"):
        load_manifest(dataset.path)


def test_a_shard_of_a_layout_that_is_not_there_is_refused(dataset: Dataset) -> None:
    rewrite(manifest_path(dataset.path, 1), lambda fields: fields["shards"][0].update(layout=7))

    with pytest.raises(CorruptError, match="a layout that is none of the 1"):
        load_manifest(dataset.path)


def test_a_file_under_another_versions_name_is_refused(dataset: Dataset) -> None:
    manifest_path(dataset.path, 1).rename(manifest_path(dataset.path, 4))

    with pytest.raises(CorruptError, match=r"000004\.json was moved: it is version 1"):
        load_manifest(dataset.path)


def test_a_later_format_asks_for_a_newer_shoal(dataset: Dataset) -> None:
    rewrite(manifest_path(dataset.path, 1), lambda fields: fields.update(format=3, columns="something new"))

    with pytest.raises(UnsupportedError, match="has format 3") as caught:
        load_manifest(dataset.path)

    assert "newer shoal" in caught.value.next_step


def test_a_base_that_is_gone_is_named(grown: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "versions" / "000002.json"
    copy.parent.mkdir()
    copy.write_bytes(manifest_path(grown.path, 2).read_bytes())

    with pytest.raises(CorruptError, match=r"000001\.json, which it builds on, is not there"):
        load_manifest(tmp_path, 2)


def test_an_append_is_written_as_what_it_adds(grown: Dataset) -> None:
    said = decode(manifest_path(grown.path, 2).read_bytes())

    assert (said["base"], len(said["shards"]), len(said["sources"])) == (1, 1, 1)
    assert load_manifest(grown.path, 2) == grown.manifest
    assert len(grown.shards) == 4


def test_a_long_history_opens_from_few_files(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset
    for seed in range(1, 2 * SNAPSHOT_EVERY + 3):
        grown = grown.append(make_rows(3, seed=seed), num_shards=1)

    bases = {number: base_of(dataset.path, number) for number in version_numbers(dataset.path)}
    wholes = [number for number, base in bases.items() if base is None]
    assert wholes == [1, 1 + SNAPSHOT_EVERY, 1 + 2 * SNAPSHOT_EVERY]
    assert load_manifest(dataset.path) == grown.manifest
    assert grown.num_rows == 500 + 3 * (2 * SNAPSHOT_EVERY + 2)
    assert len(load_manifest(dataset.path, 20).shards) == 4 + 19


def test_a_version_written_whole_says_the_same(grown: Dataset) -> None:
    before = load_manifest(grown.path, 2)

    write_whole(grown.path, 2)

    assert base_of(grown.path, 2) is None
    assert load_manifest(grown.path, 2) == before


def test_content_is_found_by_its_digest(grown: Dataset) -> None:
    assert find_content(grown.path, load_manifest(grown.path, 1).digest) == load_manifest(grown.path, 1)
    assert find_content(grown.path, "b3:" + "0" * 64) is None


def test_the_digest_depends_on_neither_place_nor_time_nor_ids(
    dataset: Dataset, make_rows: Callable[..., Rows], tmp_path: Path
) -> None:
    elsewhere = ingest(make_rows(3), tmp_path / "other")
    later = ingest(make_rows(500), elsewhere.path, num_shards=4)

    assert later.version == 2
    assert later.digest == dataset.digest


def test_columns_keep_their_ids_when_content_is_ingested_anew(dataset: Dataset) -> None:
    ids = {column.name: column.id for column in dataset.schema.columns}

    newer = ingest({"label": np.arange(3), "other": np.arange(3)}, dataset.path)

    assert newer.schema["label"].id == ids["label"]
    assert newer.schema["other"].id == 4
    assert newer.manifest.next_column == 5


def test_rivals_build_on_each_other_and_none_is_lost(dataset: Dataset) -> None:
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        publish(dataset.path, next_version)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert version_numbers(dataset.path) == list(range(1, 10))


def next_version(newest: Manifest | None) -> Manifest:
    assert newest is not None
    return replace(newest, version=newest.version + 1)


def test_who_insists_on_a_base_is_told_that_it_moved(dataset: Dataset) -> None:
    publish(dataset.path, next_version, expect=1)

    with pytest.raises(ConflictError, match=r"clicks@1: its newest version is 2"):
        publish(dataset.path, next_version, expect=1)


def test_gives_up_when_others_are_always_first(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(path: Path, data: bytes) -> None:
        raise ConflictError("taken", next_step="none")

    monkeypatch.setattr(manifest_module, "create_exclusive", taken)

    with pytest.raises(ConflictError, match="100 times"):
        publish(dataset.path, next_version)


def test_other_files_among_the_versions_are_ignored(dataset: Dataset) -> None:
    (dataset.path / "versions" / "notes.json").write_text("mine")

    assert version_numbers(dataset.path) == [1]


def test_history_is_every_version_as_it_loads_alone(grown: Dataset) -> None:
    assert load_history(grown.path, 2) == (load_manifest(grown.path, 1), load_manifest(grown.path, 2))
    assert load_history(grown.path, 1) == (load_manifest(grown.path, 1),)
