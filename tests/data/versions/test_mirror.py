import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.base import ConflictError, CorruptError, InputError, NotFoundError, ShardMissingError, StorageFullError
from shoal.data import Dataset, Preparation, ingest, prepare
from shoal.data import open as open_dataset
from shoal.data.versions.manifest import manifest_path
from shoal.data.versions.mirror import FolderPlace, find_damage, recorded_mirror, restore_versions

Rows = dict[str, np.ndarray]


@pytest.fixture
def mirrored(dataset: Dataset, make_rows: Callable[..., Rows], tmp_path: Path) -> Dataset:
    """Two versions with a second copy."""
    grown = dataset.append(make_rows(30, seed=1), num_shards=2)
    grown.mirror(tmp_path / "copy")
    return grown


def test_the_copy_opens_as_a_dataset_itself(mirrored: Dataset, tmp_path: Path) -> None:
    copy = open_dataset(tmp_path / "copy")

    copy.verify()
    assert copy.digest == mirrored.digest
    assert open_dataset(f"{tmp_path / 'copy'}@1").num_rows == 500
    assert recorded_mirror(mirrored.path) == str(tmp_path / "copy")


def test_a_second_call_copies_only_what_is_new(
    mirrored: Dataset, make_rows: Callable[..., Rows], tmp_path: Path
) -> None:
    before = {path: path.stat().st_ino for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    grown = mirrored.append(make_rows(10, seed=2), num_shards=1)

    assert grown.mirror() == str(tmp_path / "copy")

    after = {path: path.stat().st_ino for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 3
    assert open_dataset(tmp_path / "copy").digest == grown.digest


def test_every_damaged_and_missing_file_is_named_at_once(mirrored: Dataset) -> None:
    shards = mirrored.shards
    mirrored.shard_path(shards[0]).unlink()
    for shard in (shards[2], shards[4]):
        path = mirrored.shard_path(shard)
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    with pytest.raises(CorruptError, match="3 files of ") as caught:
        mirrored.verify()

    assert all(shards[index].file_name in caught.value.message for index in (0, 2, 4))
    assert "dataset.repair()" in caught.value.next_step
    assert [found.is_missing for found in find_damage(mirrored.path, mirrored.manifest)] == [True, False, False]


def test_missing_files_alone_are_told_as_missing(mirrored: Dataset) -> None:
    for shard in mirrored.shards[:2]:
        mirrored.shard_path(shard).unlink()

    with pytest.raises(ShardMissingError, match="2 files"):
        mirrored.verify()


def test_damaged_files_come_back(mirrored: Dataset) -> None:
    mirrored.shard_path(mirrored.shards[0]).unlink()
    path = mirrored.shard_path(mirrored.shards[3])
    path.write_bytes(b"x" * 100)
    profile = next((mirrored.path / "profiles").glob(f"{mirrored.manifest.profile[3:]}*"))
    profile.write_bytes(b"x")
    manifest_path(mirrored.path, 1).write_bytes(b"{}")
    untouched = mirrored.shard_path(mirrored.shards[1]).stat().st_ino

    repaired = mirrored.repair()

    mirrored.verify()
    assert len(repaired) == 4
    assert mirrored.shard_path(mirrored.shards[1]).stat().st_ino == untouched
    assert open_dataset(mirrored.path, 1).num_rows == 500
    assert mirrored.repair() == ()


def test_a_version_that_cannot_be_opened_comes_back(mirrored: Dataset) -> None:
    manifest_path(mirrored.path, 2).write_bytes(b"{}")

    assert restore_versions(mirrored.path) == ("versions/000002.json",)

    assert open_dataset(mirrored.path) == mirrored


def test_without_a_mirror_the_error_names_the_ways_out(dataset: Dataset, tmp_path: Path) -> None:
    copy = tmp_path / "by-hand"
    shutil.copytree(dataset.path, copy)
    dataset.shard_path(dataset.shards[0]).unlink()

    with pytest.raises(ShardMissingError) as verifying:
        dataset.verify()
    with pytest.raises(NotFoundError, match="there is no mirror") as caught:
        dataset.repair()

    assert verifying.value.next_step == caught.value.next_step
    assert all(way in caught.value.next_step for way in ("repair(from_=", "ingest the same source", "mirror(location)"))
    assert len(dataset.repair(from_=copy)) == 1
    dataset.verify()


def test_a_whole_dataset_needs_no_mirror_to_be_repaired(dataset: Dataset) -> None:
    assert dataset.repair() == ()


def test_a_damaged_copy_repairs_nothing_but_what_is_whole_in_it(mirrored: Dataset, tmp_path: Path) -> None:
    first, second, third = mirrored.shards[:3]
    for shard in (first, second, third):
        mirrored.shard_path(shard).unlink()
    (tmp_path / "copy" / "shards" / first.file_name).write_bytes(b"x" * first.size_bytes)
    (tmp_path / "copy" / "shards" / second.file_name).unlink()

    with pytest.raises(CorruptError, match="2 of 3 damaged files") as caught:
        mirrored.repair()

    assert first.file_name in caught.value.message
    assert not mirrored.shard_path(first).exists()
    assert mirrored.shard_path(third).exists()


def test_a_damaged_shard_is_never_copied_to_the_mirror(dataset: Dataset, tmp_path: Path) -> None:
    path = dataset.shard_path(dataset.shards[1])
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")

    with pytest.raises(CorruptError, match=path.name):
        dataset.mirror(tmp_path / "copy")

    assert not (tmp_path / "copy" / "versions").exists()
    assert recorded_mirror(dataset.path) is None


def test_impossible_places_are_named(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="has no mirror yet"):
        dataset.mirror()
    with pytest.raises(InputError, match="cannot be its own mirror"):
        dataset.mirror(dataset.path)


def test_a_place_that_lacks_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"has no shards/x\.arrow"):
        FolderPlace(tmp_path).get("shards/x.arrow", tmp_path / "y")


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory, make_rows: Callable[..., Rows]) -> Dataset:
    made = ingest(make_rows(40), tmp_path_factory.mktemp("flipped") / "clicks", num_shards=2)
    made.mirror(made.path.parent / "copy")
    return made


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_anywhere_in_a_shard_is_found_and_repaired(flipped: Dataset, data: st.DataObject) -> None:
    shard = data.draw(st.sampled_from(flipped.shards))
    at, bit = data.draw(st.integers(0, shard.size_bytes - 1)), data.draw(st.integers(0, 7))
    path = flipped.shard_path(shard)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)

    with pytest.raises(CorruptError, match=path.name):
        open_dataset(flipped.path).verify()
    assert flipped.repair() == (f"shards/{path.name}",)

    assert path.read_bytes() == whole


def test_a_preparation_is_verified_and_comes_back(dataset: Dataset, tmp_path: Path) -> None:
    prepared = dataset.prepare(Preparation({"weight": [prepare.Standardise()]}))
    prepared.verify()
    prepared.mirror(tmp_path / "copy")
    (path,) = (dataset.path / "preparations").iterdir()
    path.unlink()

    with pytest.raises(ShardMissingError, match=path.name):
        prepared.verify()
    assert prepared.repair() == (f"preparations/{path.name}",)

    prepared.verify()


def test_a_full_disk_leaves_a_copy_that_goes_on_where_it_ended(
    dataset: Dataset, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(1_000), pytest.raises(StorageFullError):
        dataset.mirror(tmp_path / "copy")

    assert recorded_mirror(dataset.path) is None
    dataset.mirror(tmp_path / "copy")
    open_dataset(tmp_path / "copy").verify()


def test_a_mirror_at_a_url_of_an_unknown_kind_is_refused(dataset: Dataset) -> None:
    with pytest.raises(InputError, match="ftp://"):
        dataset.mirror("ftp://host/clicks")


def test_another_dataset_is_never_taken_over(dataset: Dataset, make_rows: Callable[..., Rows], tmp_path: Path) -> None:
    other = ingest(make_rows(20, seed=7), tmp_path / "other")
    before = {path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()}

    for version in (dataset, dataset.append(make_rows(10, seed=2))):
        with pytest.raises(ConflictError, match="another dataset") as caught:
            version.mirror(other.path)

    assert str(dataset.path) in caught.value.message
    assert str(other.path) in caught.value.message
    assert "empty folder" in caught.value.next_step
    assert {path: path.read_bytes() for path in other.path.rglob("*") if path.is_file()} == before
    assert recorded_mirror(dataset.path) is None


def test_a_copy_that_went_its_own_way_is_another_dataset(
    mirrored: Dataset, make_rows: Callable[..., Rows], tmp_path: Path
) -> None:
    open_dataset(tmp_path / "copy").append(make_rows(10, seed=3))
    mirrored.mirror()

    with pytest.raises(ConflictError, match="version 3 is another one there"):
        mirrored.append(make_rows(10, seed=2)).mirror()


def test_a_manifest_of_another_dataset_is_not_taken(
    mirrored: Dataset, make_rows: Callable[..., Rows], tmp_path: Path
) -> None:
    other = ingest(make_rows(20, seed=7), tmp_path / "other").append(make_rows(10, seed=8))
    manifest_path(mirrored.path, 2).write_bytes(b"{}")

    with pytest.raises(ConflictError, match="version 2 there is one of another dataset"):
        restore_versions(mirrored.path, other.path)

    assert manifest_path(mirrored.path, 2).read_bytes() == b"{}"
    assert restore_versions(mirrored.path) == ("versions/000002.json",)
