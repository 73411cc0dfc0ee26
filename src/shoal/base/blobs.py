"""Content-addressed storage: bytes, files and folders kept under their digest, once each."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from shoal.base.digest import Digester, check_file, digest_bytes, digest_tree, tree_files
from shoal.base.errors import ConflictError, CorruptError, InputError, NotFoundError
from shoal.base.files import aside, atomic_file, atomic_folder

_DIGEST = re.compile(r"b3:[0-9a-f]{64}\Z")
_COPY_BYTES = 1 << 20


class Blobs(Protocol):
    """Keeps immutable content under its digest. All calls are safe from many threads and processes at once.

    A put is durable when it returns, and free when the content is already there. Nothing is ever visible half-written.
    """

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Keep bytes and return their digest."""
        ...

    def put_file(self, path: str | os.PathLike[str]) -> str:
        """Keep a copy of a file and return its digest; the original may change later."""
        ...

    def put_folder(self, path: str | os.PathLike[str]) -> str:
        """Keep a copy of a folder and return its `digest_tree`."""
        ...

    def path(self, digest: str) -> Path:
        """Return where the content lies, for reading only; NotFoundError when it is not kept."""
        ...

    def contains(self, digest: str) -> bool:
        """Tell whether the content is kept."""
        ...

    def check(self, digest: str) -> None:
        """Return when the kept content still has its digest; else CorruptError."""
        ...

    def delete(self, digest: str) -> None:
        """Remove the content; nothing happens when it is not kept."""
        ...

    def digests(self) -> Iterator[str]:
        """Yield the digest of everything kept, in no promised order."""
        ...


class LocalBlobs:
    """Blobs in a folder, laid out as `ab/cdef...` by digest.

    Files are made read-only. Folders stay writable (only the files in them are not), so that a user can remove the
    whole place with a plain `rm -r`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Keep bytes and return their digest."""
        digest = digest_bytes(data)
        target = self._place(digest)
        if not target.exists():
            with atomic_file(target) as sink:
                sink.write(data)
                os.fchmod(sink.fileno(), 0o444)
        return digest

    def put_file(self, path: str | os.PathLike[str]) -> str:
        """Keep a copy of a file; the digest is of the bytes that were copied, even if the file changes meanwhile."""
        source_path = Path(path)
        if not source_path.is_file():
            raise NotFoundError(f"cannot keep {source_path}: there is no such file", next_step="check the path")
        digester = Digester()
        arriving = aside(self._folder / "arriving")
        try:
            with source_path.open("rb") as source, atomic_file(arriving) as sink:
                while piece := source.read(_COPY_BYTES):
                    digester.update(piece)
                    sink.write(piece)
                os.fchmod(sink.fileno(), 0o444)
            target = self._place(digester.digest())
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                arriving.replace(target)
        finally:
            arriving.unlink(missing_ok=True)
        return digester.digest()

    def put_folder(self, path: str | os.PathLike[str]) -> str:
        """Keep a copy of a folder; the digest is of the files that were copied."""
        source = Path(path)
        digest = digest_tree(source)
        target = self._place(digest)
        if target.exists():
            return digest
        try:
            with atomic_folder(target) as arriving:
                for file in tree_files(source):
                    place = arriving / file.relative_to(source)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, place)
                    place.chmod(0o444)
                if (copied := digest_tree(arriving)) != digest:
                    raise CorruptError(
                        f"cannot keep {source}: it changed while it was copied ({digest} became {copied})",
                        next_step="try again when nothing writes to it",
                    )
        except ConflictError:
            # A rival stored the same content first: both results are the same folder.
            if not target.exists():
                raise
        return digest

    def path(self, digest: str) -> Path:
        """Return where the content lies; NotFoundError when it is not kept, InputError for a malformed digest."""
        target = self._place(digest)
        if not target.exists():
            raise NotFoundError(
                f"cannot find {digest} in {self._folder}", next_step="run the step that made it again to restore it"
            )
        return target

    def contains(self, digest: str) -> bool:
        """Tell whether the content is kept."""
        return self._place(digest).exists()

    def check(self, digest: str) -> None:
        """Return when the kept content still has its digest; else CorruptError."""
        target = self.path(digest)
        if not target.is_dir():
            check_file(target, digest)
        elif (found := digest_tree(target)) != digest:
            raise CorruptError(
                f"{target} was changed or damaged: its digest is {found}, expected {digest}",
                next_step="delete it and run the step that made it again",
            )

    def delete(self, digest: str) -> None:
        """Remove the content; nothing happens when it is not kept."""
        target = self._place(digest)
        # Renamed first, so that nobody sees a folder with some of its files gone.
        leaving = aside(target)
        try:
            target.rename(leaving)
        except FileNotFoundError:
            return
        if leaving.is_dir():
            shutil.rmtree(leaving)
        else:
            leaving.unlink()

    def digests(self) -> Iterator[str]:
        """Yield the digest of everything kept."""
        for shelf in sorted(self._folder.glob("??")):
            for entry in sorted(shelf.iterdir()):
                digest = f"b3:{shelf.name}{entry.name}"
                if _DIGEST.match(digest):
                    yield digest

    def _place(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise InputError(
                f"{digest!r} is not a digest: expected 'b3:' and 64 hex digits", next_step="copy the whole digest"
            )
        return self._folder / digest[3:5] / digest[5:]
