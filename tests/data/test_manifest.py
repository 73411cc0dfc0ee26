import threading
from dataclasses import replace
from pathlib import Path

import pytest

from shoal.base import ConflictError, CorruptError, NotFoundError
from shoal.data import Dataset
from shoal.data import manifest as manifest_module
from shoal.data.manifest import Manifest, load_manifest, publish, version_numbers


def test_reads_what_was_published(dataset: Dataset) -> None:
    assert load_manifest(dataset.path) == dataset.manifest
    assert load_manifest(dataset.path, 1) == dataset.manifest


def test_a_missing_dataset_and_a_missing_version_are_told_apart(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset in this folder"):
        load_manifest(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="clicks@7: its versions are 1 to 1"):
        load_manifest(dataset.path, 7)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}'])
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


def test_gives_up_when_others_are_always_first(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(path: Path, data: bytes) -> None:
        raise ConflictError("taken", next_step="none")

    monkeypatch.setattr(manifest_module, "create_exclusive", taken)

    with pytest.raises(ConflictError, match="100 times"):
        publish(dataset.path, next_version)


def test_other_files_among_the_versions_are_ignored(dataset: Dataset) -> None:
    (dataset.path / "versions" / "notes.json").write_text("mine")

    assert version_numbers(dataset.path) == [1]
