import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from shoal.base import (
    ConfigError,
    CorruptError,
    File,
    NotFoundError,
    digest_bytes,
    handle,
    is_handle,
    open_handle,
    register_handle,
)


@dataclass(frozen=True)
class Thing:
    address: str
    digest: str
    kind: str = "thing"


def open_thing(address: str, digest: str) -> Thing:
    return Thing(address, digest)


@pytest.fixture(autouse=True)
def openers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "_openers", dict(handle._openers))


def test_file_counts_by_content(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")

    assert File(tmp_path / "a").digest == File(tmp_path / "b").digest == digest_bytes(b"same")


def test_file_digest_follows_every_change(tmp_path: Path):
    file = File(tmp_path / "f")
    digests = set()
    for number in range(20):
        # Same length, and faster than the file system's clock ticks.
        file.path.write_text(f"{number:04d}")
        digests.add(file.digest)

    assert len(digests) == 20


def test_settled_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = File(tmp_path / "f")
    file.path.write_bytes(b"old")
    monkeypatch.setattr(handle, "_SETTLED_NS", -1)
    reads = []
    monkeypatch.setattr(handle, "digest_file", lambda path: reads.append(path) or "b3:" + "0" * 64)

    assert file.digest == file.digest

    assert len(reads) == 1


def test_time_stamp_set_back_does_not_hide_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(handle, "_SETTLED_NS", -1)
    file = File(tmp_path / "f")
    file.path.write_bytes(b"one")
    os.utime(file.path, (1, 1))
    before = file.digest

    file.path.write_bytes(b"two")
    os.utime(file.path, (1, 1))

    assert file.digest != before


def test_file_is_usable_as_a_path(tmp_path: Path):
    (tmp_path / "f").write_text("content")

    assert Path(File(tmp_path / "f")).read_text() == "content"


def test_file_address_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    assert File("f").address == str(tmp_path / "f")
    assert File("f") == File(tmp_path / "f")
    assert len({File("f"), File(tmp_path / "f")}) == 1


def test_missing_file_is_not_found(tmp_path: Path):
    with pytest.raises(NotFoundError, match="absent"):
        File(tmp_path / "absent").digest  # noqa: B018  # reading it is what is tested


def test_file_opens_by_its_three_words(tmp_path: Path):
    file = File(tmp_path / "f")
    file.path.write_bytes(b"1")

    assert open_handle(file.kind, file.address, file.digest) == file


def test_file_that_changed_does_not_open(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"1")

    with pytest.raises(CorruptError, match="changed since"):
        open_handle("file", str(tmp_path / "f"), digest_bytes(b"2"))


def test_opener_may_be_named_and_imported_later():
    register_handle("written", "shoal.base.recorder:Ref.of")
    register_handle("thing", open_thing)

    assert open_handle("thing", "here", "b3:0") == Thing("here", "b3:0")


def test_kind_is_registered_once():
    register_handle("thing", open_thing)
    register_handle("thing", open_thing)

    with pytest.raises(ConfigError, match="thing"):
        register_handle("thing", "other:opener")


def test_unknown_kind_lists_the_known():
    with pytest.raises(NotFoundError, match="'file'"):
        open_handle("nonsense", "a", "b")


def test_handle_is_told_without_reading_it(tmp_path: Path):
    assert is_handle(File(tmp_path / "absent"))
    assert is_handle(Thing("a", "b"))
    assert not is_handle(tmp_path)
    assert not is_handle(File)
