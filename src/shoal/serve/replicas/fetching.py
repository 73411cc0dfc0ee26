"""The files of a model in a replica on another machine: those that are there, else fetched for as long as it loads."""

import fcntl
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from shoal.base import CorruptError, Digester, NotFoundError, StorageFullError, UnavailableError, digest_file
from shoal.serve.links.files import REPLIES, Absent, Ask, Content, Get, Part, Parts, Reply, hear, tell
from shoal.serve.links.proof import call
from shoal.serve.replicas.python_models import is_address

_LOG = logging.getLogger(__name__)
# A large file must only keep coming.
_SILENCE_S = 60.0
# Before the second try and those that follow.
_PAUSES_S = (0.2, 1.0, 5.0)
_PIECE_BYTES = 1 << 20


class Fetcher:
    """Gets what plans name from the supervisor. Any thread may call."""

    def __init__(self, address: str, port: int, token: str) -> None:
        """Know where the supervisor gives files; nothing is asked yet."""
        self._place = (address, port, token)

    @contextmanager
    def fetched(self, source: str) -> Iterator[str]:
        """Yield where the source of a plan can be loaded from, until the end of the block.

        Files that this machine has under the same path, with the same content, are used as they are. Others are fetched
        into a folder of this user and go with the block, or, if this process is killed, with the next that comes here.

        Raises:
            NotFoundError: the supervisor does not have it, or does not serve it any more.
            CorruptError: what came is not what was announced.
            UnavailableError: the supervisor cannot be reached.
            StorageFullError: there is no room for it.
        """
        if is_address(source) and not source.rpartition(":")[0].endswith(".py"):
            # A module, which this machine has or has not.
            yield source
            return
        with own_folder() as folder:
            yield self._get_in_the_end(source, folder)

    def _get_in_the_end(self, source: str, folder: Path) -> str:
        # What cannot be loaded is not tried again with the same plan; a hiccup of the network is no reason for that.
        for number, pause_s in enumerate(_PAUSES_S):
            try:
                return self._get(source, folder / str(number))
            except UnavailableError as error:
                _LOG.warning("%s; next try in %g s", error.message, pause_s)
                time.sleep(pause_s)
        return self._get(source, folder / "last")

    def _get(self, source: str, folder: Path) -> str:
        place, _, name = source.rpartition(":") if is_address(source) else (source, "", "")
        try:
            connection = call(*self._place)
            connection.settimeout(_SILENCE_S)
        except OSError as error:
            raise _unreachable(source, error) from error
        with connection:
            found = _ask(connection, Ask(source), source)
            if isinstance(found, Absent):
                raise NotFoundError(found.message, next_step=found.next_step)
            if not isinstance(found, Parts):
                raise _damaged(source)
            root = Path(place)
            if _is_here(root if found.is_folder else root.parent, found.parts):
                return source
            inner = folder / root.name if found.is_folder else folder
            for part in found.parts:
                _fetch(connection, part, _inside(inner, part.name), source)
        path = str(inner if found.is_folder else inner / root.name)
        return f"{path}:{name}" if name else path


@contextmanager
def own_folder() -> Iterator[Path]:
    """Yield a new folder that goes with the block; those of processes that were killed in theirs go now."""
    base = Path(tempfile.gettempdir()) / f"shoal-fetched-{os.getuid()}"
    with suppress(FileExistsError):
        base.mkdir(mode=0o700)
    if base.is_symlink() or base.stat().st_uid != os.getuid():
        raise UnavailableError(f"{base} belongs to somebody else", next_step="remove it, or set TMPDIR")
    with _locked(base):
        # Nobody makes a folder meanwhile that has no lock yet.
        for left in base.iterdir():
            with suppress(BlockingIOError, FileNotFoundError, NotADirectoryError), _locked(left, fcntl.LOCK_NB):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=base))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(descriptor)


def _is_here(root: Path, parts: list[Part]) -> bool:
    try:
        return all(
            (root / part.name).stat().st_size == part.size_bytes and digest_file(root / part.name) == part.digest
            for part in parts
        )
    except (OSError, NotFoundError):
        return False


def _inside(folder: Path, name: str) -> Path:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise _damaged(name)
    return folder / relative


def _fetch(connection: socket.socket, part: Part, target: Path, source: str) -> None:
    content = _ask(connection, Get(part.digest), source)
    if isinstance(content, Absent):
        raise NotFoundError(content.message, next_step=content.next_step)
    if not isinstance(content, Content) or content.size_bytes != part.size_bytes:
        raise _damaged(source)
    digester, left = Digester(), part.size_bytes
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = target.open("wb")
    except OSError as error:
        raise _no_room(part, error) from error
    with sink:
        while left:
            try:
                piece = connection.recv(min(left, _PIECE_BYTES))
            except OSError as error:
                raise _unreachable(source, error) from error
            if not piece:
                raise _unreachable(source, ConnectionError("it hung up"))
            digester.update(piece)
            try:
                sink.write(piece)
            except OSError as error:
                raise _no_room(part, error) from error
            left -= len(piece)
    if digester.digest() != part.digest:
        raise CorruptError(
            f"{part.name} of {source} changed while it was fetched", next_step="leave files alone that are served"
        )


def _ask(connection: socket.socket, question: Ask | Get, source: str) -> Reply:
    try:
        tell(connection, question)
        reply = hear(connection, REPLIES)
    except OSError as error:
        raise _unreachable(source, error) from error
    if reply is None:
        raise _unreachable(source, ConnectionError("it hung up"))
    return reply


def _unreachable(source: str, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"cannot fetch {source} from the machine that the server was started on: {error}",
        next_step="look at the network between the two; the server loads the version again with its next plan",
    )


def _damaged(source: str) -> CorruptError:
    return CorruptError(
        f"the supervisor sent something else than the files of {source}",
        next_step="run the same version of shoal on all machines",
    )


def _no_room(part: Part, error: OSError) -> StorageFullError:
    return StorageFullError(
        f"cannot keep {part.name}, {part.size_bytes} bytes, on this machine: {error.strerror}",
        next_step="make room in its folder for temporary files, or set TMPDIR",
    )
