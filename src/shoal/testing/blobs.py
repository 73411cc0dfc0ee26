"""What every content-addressed storage must keep."""

import threading
from pathlib import Path

import pytest

from shoal.base import (
    Blobs,
    CorruptError,
    InputError,
    NotFoundError,
    UnsupportedError,
    digest_bytes,
    digest_file,
    digest_tree,
)


class BlobsContract:
    """The suite for `Blobs`: subclass it and give a fixture `blobs` with an empty one."""

    @pytest.fixture
    def blobs(self) -> Blobs:
        """Return the backend under test, empty."""
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Return a folder with two files, one of them nested."""
        folder = tmp_path / "package"
        (folder / "inner").mkdir(parents=True)
        (folder / "a.txt").write_bytes(b"a")
        (folder / "inner" / "b.txt").write_bytes(b"b")
        return folder

    def test_bytes_come_back(self, blobs: Blobs) -> None:
        """Bytes that were put are read back from the path."""
        digest = blobs.put_bytes(b"shoal")

        assert digest == digest_bytes(b"shoal")
        assert blobs.path(digest).read_bytes() == b"shoal"

    def test_empty_content_is_content(self, blobs: Blobs) -> None:
        """Nothing at all can be kept too."""
        digest = blobs.put_bytes(b"")

        assert blobs.contains(digest)
        assert blobs.path(digest).read_bytes() == b""

    def test_file_is_kept_when_the_original_goes(self, blobs: Blobs, tmp_path: Path) -> None:
        """A put file is a copy."""
        original = tmp_path / "original"
        original.write_bytes(b"x" * 3_000_000)

        digest = blobs.put_file(original)
        original.unlink()

        assert digest_file(blobs.path(digest)) == digest

    def test_file_and_bytes_share_one_place(self, blobs: Blobs, tmp_path: Path) -> None:
        """The same content is kept once, however it came."""
        original = tmp_path / "original"
        original.write_bytes(b"same")

        digests = {blobs.put_bytes(b"same"), blobs.put_file(original)}

        assert list(blobs.digests()) == list(digests)

    def test_folder_comes_back_whole(self, blobs: Blobs, folder: Path) -> None:
        """A folder is kept with its nested files."""
        digest = blobs.put_folder(folder)

        assert digest == digest_tree(folder) == digest_tree(blobs.path(digest))
        assert (blobs.path(digest) / "inner" / "b.txt").read_bytes() == b"b"

    def test_second_put_changes_nothing(self, blobs: Blobs, folder: Path) -> None:
        """Putting the same again returns the same digest and keeps one copy."""
        first = [blobs.put_bytes(b"1"), blobs.put_folder(folder)]
        second = [blobs.put_bytes(b"1"), blobs.put_folder(folder)]

        assert first == second
        assert sorted(blobs.digests()) == sorted(first)

    def test_rivals_store_one_copy(self, blobs: Blobs, folder: Path) -> None:
        """Many threads that put the same content at once all succeed."""
        start = threading.Barrier(8)
        digests: list[str] = []

        def put() -> None:
            start.wait()
            digests.extend([blobs.put_bytes(b"raced"), blobs.put_folder(folder)])

        threads = [threading.Thread(target=put) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(digests) == 16
        assert sorted(blobs.digests()) == sorted(set(digests))
        for digest in set(digests):
            blobs.check(digest)

    def test_unknown_digest_is_not_found(self, blobs: Blobs) -> None:
        """What is not kept has no path."""
        absent = digest_bytes(b"absent")

        assert not blobs.contains(absent)
        with pytest.raises(NotFoundError, match=absent):
            blobs.path(absent)

    @pytest.mark.parametrize("bad", ["", "b3:12", "b3:" + "Z" * 64, "b3:" + "../" * 21 + "a"])
    def test_malformed_digest_is_refused(self, blobs: Blobs, bad: str) -> None:
        """A text that is no digest never becomes a path."""
        with pytest.raises(InputError, match="64 hex digits"):
            blobs.path(bad)

    def test_deleted_content_is_gone(self, blobs: Blobs, folder: Path) -> None:
        """Deleting removes files and folders, and doing it twice is fine."""
        digests = [blobs.put_bytes(b"1"), blobs.put_folder(folder)]

        for digest in digests * 2:
            blobs.delete(digest)

        assert list(blobs.digests()) == []
        assert not any(map(blobs.contains, digests))

    def test_damage_is_found(self, blobs: Blobs, folder: Path) -> None:
        """A changed byte in a kept file or folder fails the check, and the error names the place."""
        file, tree = blobs.put_bytes(b"good"), blobs.put_folder(folder)
        for path in (blobs.path(file), blobs.path(tree) / "a.txt"):
            path.chmod(0o644)
            path.write_bytes(b"bad!")

        for digest in (file, tree):
            with pytest.raises(CorruptError, match=str(blobs.path(digest))):
                blobs.check(digest)

    def test_missing_original_is_not_found(self, blobs: Blobs, tmp_path: Path) -> None:
        """Putting a path that is not there names it and keeps nothing."""
        for put in (blobs.put_file, blobs.put_folder):
            with pytest.raises(NotFoundError, match="absent"):
                put(tmp_path / "absent")

        assert list(blobs.digests()) == []

    def test_links_are_refused(self, blobs: Blobs, folder: Path) -> None:
        """A folder with a link in it is refused: the target could change unseen."""
        (folder / "link").symlink_to("/etc/hosts")

        with pytest.raises(UnsupportedError, match="link"):
            blobs.put_folder(folder)
