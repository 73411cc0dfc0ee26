"""Digests: one name for content, on every machine. All are `b3:` and 64 hex digits of BLAKE3."""

import os
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from shoal.base.errors import CorruptError, NotFoundError, UnsupportedError
from shoal.base.json import encode

CHUNK_BYTES = 4 << 20
_READ_BYTES = 1 << 20
# Folders hash in a domain of their own: no file can be made whose digest equals a folder's.
_TREE_CONTEXT = "shoal 2026-11 folder listing v1"


class Digester:
    """A digest that grows piece by piece; not for several threads at once."""

    def __init__(self) -> None:
        self._state = blake3()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes; how the content is cut into calls does not change the digest."""
        self._state.update(data)

    def digest(self) -> str:
        """Return the digest of everything added so far; more may follow."""
        return f"b3:{self._state.hexdigest()}"


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """Return the digest of bytes in memory."""
    return f"b3:{blake3(data).hexdigest()}"


def digest_json(value: object) -> str:
    """Return the digest of a value's canonical JSON: dict order does not count, `1` and `1.0` differ, NaN is null."""
    return digest_bytes(encode(value))


def digest_file(path: str | os.PathLike[str]) -> str:
    """Return the digest of a file's content, read in pieces of 1 MiB."""
    digester = Digester()
    for piece in _pieces(Path(path), None):
        digester.update(piece)
    return digester.digest()


def digest_chunks(path: str | os.PathLike[str], chunk_bytes: int = CHUNK_BYTES) -> list[str]:
    """Return one digest per chunk of `chunk_bytes` (the last may be shorter); an empty file has none."""
    return [digest_bytes(chunk) for chunk in _pieces(Path(path), chunk_bytes)]


def digest_tree(folder: str | os.PathLike[str]) -> str:
    """Return the digest of a folder: relative paths and contents count; times, modes and empty folders do not.

    Raises:
        UnsupportedError: something inside is neither a file nor a folder; a link's target could change unseen.
    """
    root = Path(folder)
    files = {path.relative_to(root).as_posix(): digest_file(path) for path in tree_files(root)}
    return f"b3:{blake3(encode(files), derive_key_context=_TREE_CONTEXT).hexdigest()}"


def tree_files(root: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted; UnsupportedError for links and other kinds of entries."""
    if not root.is_dir():
        raise NotFoundError(f"cannot list {root}: it is not a folder", next_step="check the path")
    for entry in sorted(root.iterdir()):
        if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
            raise UnsupportedError(
                f"cannot digest {root}: {entry} is a link or a special file", next_step="replace it by a plain file"
            )
        if entry.is_dir():
            yield from tree_files(entry)
        else:
            yield entry


def check_file(path: str | os.PathLike[str], digest: str) -> None:
    """Return when the file's content has this digest.

    Raises:
        CorruptError: it has another one; the message names the file and both digests.
        NotFoundError: there is no such file.
    """
    found = digest_file(path)
    if found != digest:
        raise CorruptError(
            f"{path} was changed or damaged: its digest is {found}, expected {digest}",
            next_step="restore the file from its source or a copy; do not use it as it is",
        )


def _pieces(path: Path, size: int | None) -> Iterator[bytes]:
    try:
        source = path.open("rb")
    except FileNotFoundError as error:
        raise NotFoundError(f"cannot read {path}: there is no such file", next_step="check the path") from error
    with source:
        while piece := source.read(size or _READ_BYTES):
            yield piece
