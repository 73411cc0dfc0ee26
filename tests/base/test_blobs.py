import stat
from pathlib import Path

import pytest

from shoal.base import CorruptError, LocalBlobs
from shoal.base import blobs as blobs_module
from shoal.testing import BlobsContract


class TestLocalBlobs(BlobsContract):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> LocalBlobs:
        return LocalBlobs(tmp_path / "artifacts")

    def test_layout_is_two_digits_then_the_rest(self, blobs: LocalBlobs, tmp_path: Path):
        digest = blobs.put_bytes(b"shoal")

        assert blobs.path(digest) == tmp_path / "artifacts" / digest[3:5] / digest[5:]

    def test_kept_files_are_read_only(self, blobs: LocalBlobs, folder: Path):
        for path in (blobs.path(blobs.put_bytes(b"1")), blobs.path(blobs.put_folder(folder)) / "a.txt"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o444

    def test_nothing_but_blobs_stays_behind(self, blobs: LocalBlobs, folder: Path, tmp_path: Path):
        digests = [blobs.put_bytes(b"1"), blobs.put_file(folder / "a.txt"), blobs.put_folder(folder)]

        entries = [path for shelf in (tmp_path / "artifacts").iterdir() for path in shelf.iterdir()]

        assert sorted(entries) == sorted(map(blobs.path, digests))

    def test_folder_that_changes_while_copied_is_refused(
        self, blobs: LocalBlobs, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        copyfile = blobs_module.shutil.copyfile

        def copy_and_change(source: Path, target: Path) -> None:
            copyfile(source, target)
            (folder / "inner" / "b.txt").write_bytes(b"changed")

        monkeypatch.setattr(blobs_module.shutil, "copyfile", copy_and_change)

        with pytest.raises(CorruptError, match="changed while it was copied"):
            blobs.put_folder(folder)

        assert list(blobs.digests()) == []
