from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from shoal.base import CorruptError, file_lock
from shoal.data import Dataset, Profile
from shoal.data.storage.shard import check_shard
from shoal.data.versions.staging import claimed_names, load_profile, place_shard, store_profile, work_folder


def test_a_work_folder_is_gone_when_the_block_ends(dataset: Dataset) -> None:
    with work_folder(dataset.path) as work:
        (work / "half").write_text("x")

    assert list((dataset.path / "incoming").iterdir()) == []


def test_a_work_folder_is_gone_after_an_error(dataset: Dataset) -> None:
    def fail() -> None:
        with work_folder(dataset.path) as work:
            (work / "half").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert list((dataset.path / "incoming").iterdir()) == []


def test_a_failed_first_ingest_leaves_not_even_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), work_folder(tmp_path / "new"):
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_failing_rival_removes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    def remove_once(lock: Path, *, blocking: bool = True) -> AbstractContextManager[None]:
        if not removed:
            removed.append(lock)
            raise FileNotFoundError(lock)
        return file_lock(lock, blocking=blocking)

    monkeypatch.setattr("shoal.data.versions.staging.file_lock", remove_once)

    with work_folder(tmp_path / "new") as work:
        assert work.is_dir()


def test_files_of_the_user_in_a_new_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")

    with work_folder(tmp_path):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_the_dead_left_is_removed_and_the_living_are_left_alone(dataset: Dataset) -> None:
    incoming = dataset.path / "incoming"
    for name in ("dead", "alive"):
        (incoming / name).mkdir(parents=True)
        (incoming / name / "half").touch()
        (incoming / f"{name}.lock").touch()

    with file_lock(incoming / "alive.lock"), work_folder(dataset.path):
        pass

    assert sorted(path.name for path in incoming.iterdir()) == ["alive", "alive.lock"]
    assert (incoming / "alive" / "half").exists()


def test_placing_a_shard_replaces_a_damaged_file_of_its_name(dataset: Dataset, tmp_path: Path) -> None:
    shard = dataset.shards[0]
    path, made = dataset.shard_path(shard), tmp_path / "made"
    made.write_bytes(path.read_bytes())
    path.write_bytes(b"damaged")

    place_shard(made, dataset.path, shard)

    check_shard(path, shard)


def test_placing_a_shard_leaves_an_intact_file_alone(dataset: Dataset, tmp_path: Path) -> None:
    shard = dataset.shards[0]
    before = dataset.shard_path(shard).stat()
    made = tmp_path / "made"
    made.write_bytes(b"never looked at")

    place_shard(made, dataset.path, shard)

    assert dataset.shard_path(shard).stat().st_ino == before.st_ino


def test_a_profile_is_kept_under_its_digest(tmp_path: Path) -> None:
    profile = Profile()

    assert load_profile(tmp_path, store_profile(tmp_path, profile)) == profile


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_damaged_or_missing_profile_is_named(tmp_path: Path, damage: object) -> None:
    digest = store_profile(tmp_path, Profile())
    (path,) = (tmp_path / "profiles").iterdir()

    damage(path)  # type: ignore[operator]  # a small function

    with pytest.raises(CorruptError, match=path.name):
        load_profile(tmp_path, digest)


def test_claims_are_listed_again_when_a_work_folder_goes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rglob, gone = Path.rglob, [1]

    def listed(self: Path, pattern: str) -> Iterator[Path]:
        if gone:
            gone.pop()
            raise FileNotFoundError(self)
        return rglob(self, pattern)

    monkeypatch.setattr(Path, "rglob", listed)
    with work_folder(tmp_path) as work:
        (work / "a.arrow.claim").touch()

        assert claimed_names(tmp_path) == {"a.arrow"}
