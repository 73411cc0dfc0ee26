"""Gives the files of planned models to replicas on other machines."""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shoal.base import CorruptError, ShoalError, digest_file, tree_files
from shoal.serve.links.files import QUESTIONS, Absent, Ask, Content, Part, Parts, hear, tell
from shoal.serve.links.proof import answer
from shoal.serve.replicas.python_models import is_address

_LOG = logging.getLogger(__name__)
# Strangers may hold so many for a few seconds; replicas come again.
_MOST_UNPROVED = 64
_SILENCE_S = 60.0


class ModelFiles:
    """A port where those who know the token may read the files of models, and no others. Serves in its own threads."""

    def __init__(self, address: str, token: str, is_planned: Callable[[str], bool]) -> None:
        """Begin to listen.

        Args:
            address: of this machine, that the replicas reach.
            token: that callers must know.
            is_planned: whether a source is one that is to be served; no other is read.

        Raises:
            OSError: the address is none of this machine.
        """
        self._token = token
        self._is_planned = is_planned
        family = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][0]
        self._listener = socket.create_server((address, 0), family=family)
        self._unproved = threading.BoundedSemaphore(_MOST_UNPROVED)
        self._thread = threading.Thread(target=self._listen, name="serve files", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Take no more calls. Idempotent."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except ConnectionError:
                continue
            except OSError:
                return
            if not self._unproved.acquire(blocking=False):
                connection.close()
                continue
            # Who says nothing keeps nobody else waiting.
            threading.Thread(target=self._serve, args=(connection,), name="serve file", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            is_proved = answer(connection, self._token)
        finally:
            self._unproved.release()
        with connection:
            if not is_proved:
                return
            try:
                connection.settimeout(_SILENCE_S)
                self._converse(connection)
            except (OSError, CorruptError) as error:
                _LOG.warning("a replica that asked for files is gone: %s", error)

    def _converse(self, connection: socket.socket) -> None:
        # Only what was told of here can be got here.
        told: dict[str, Path] = {}
        while (question := hear(connection, QUESTIONS)) is not None:
            if isinstance(question, Ask):
                tell(connection, self._find(question.source, told))
            elif (path := told.get(question.digest)) is None:
                tell(connection, Absent(f"nothing was told of {question.digest}", "ask for the source first"))
            elif not _give(connection, path):
                return

    def _find(self, source: str, told: dict[str, Path]) -> Parts | Absent:
        if not self._is_planned(source):
            return Absent(f"{source} is not served any more", "wait for the next plan")
        place = Path(source.rpartition(":")[0] if is_address(source) else source)
        is_folder = place.is_dir()
        root = place if is_folder else place.parent
        try:
            paths = list(tree_files(place)) if is_folder else [place, *_beside(place)]
            parts = [Part(path.relative_to(root).as_posix(), path.stat().st_size, digest_file(path)) for path in paths]
        except (OSError, ShoalError) as error:
            return Absent(f"cannot read {source}: {error}", "give a model that is there")
        told.update((part.digest, path) for part, path in zip(parts, paths, strict=True))
        return Parts(parts, is_folder)


def _beside(path: Path) -> list[Path]:
    # Exporters write large weights beside the file.
    weights = path.with_name(f"{path.name}.data")
    return [weights] if path.suffix == ".onnx" and weights.is_file() else []


def _give(connection: socket.socket, path: Path) -> bool:
    """Send a file; False when it is shorter than announced, so that the connection makes no sense any more."""
    try:
        source = path.open("rb")
    except OSError as error:
        tell(connection, Absent(f"cannot read {path}: {error.strerror}", "give a model that is there"))
        return True
    with source:
        size_bytes = path.stat().st_size
        tell(connection, Content(size_bytes))
        return not size_bytes or connection.sendfile(source, count=size_bytes) == size_bytes
