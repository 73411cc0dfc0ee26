import os
from pathlib import Path

import pytest

from shoal.data.storage.flushing import Flushing


def test_every_file_was_flushed_when_the_block_ends_also_under_a_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    paths = [tmp_path / f"made-{index}" for index in range(5)]

    with Flushing() as flushing:
        for path in paths:
            path.write_bytes(b"rows")
            flushing.flush(path)
            path.rename(path.with_suffix(".named"))

    assert sorted(flushed) == sorted(path.with_suffix(".named").stat().st_ino for path in paths)


def test_an_error_of_the_disk_is_raised_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "the disk is broken")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "made").write_bytes(b"rows")

    with pytest.raises(OSError, match="broken"), Flushing() as flushing:
        flushing.flush(tmp_path / "made")


def test_the_callers_own_error_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "the disk is broken")

    def stumble() -> None:
        with Flushing() as flushing:
            flushing.flush(tmp_path / "made")
            raise KeyError

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "made").write_bytes(b"rows")

    with pytest.raises(KeyError):
        stumble()
