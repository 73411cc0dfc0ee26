"""Python objects on their way from the program that starts a server to its replicas.

They lie in a folder that only this user can read and that goes with this process. A replica loads such a file because
its supervisor planned it; no address that a person gives leads to one.
"""

import atexit
import os
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from shoal.base import CorruptError, NotFoundError, digest_bytes, write_atomic
from shoal.runtime import Code

T = TypeVar("T")
_SUFFIX = ".carried"


def carry(model: object) -> str:
    """Write the object, with the code that a replica could not import, and return the file's path.

    The same content gives the same path. The file stays as long as this process.

    Raises:
        InputError: it holds something that cannot leave this process.
    """
    payload = Code.of(partial(_same, model)).payload
    assert payload is not None  # a partial has no name by which it could be imported
    path = _folder() / f"{digest_bytes(payload).removeprefix('b3:')}{_SUFFIX}"
    if not path.exists():
        write_atomic(path, payload)
    return str(path)


def is_carried(path: str) -> bool:
    """Whether the path is one that `carry` gave."""
    return path.endswith(_SUFFIX)


def receive(path: str) -> object:
    """The object behind a path that `carry` gave, in a process of the same tree.

    Raises:
        NotFoundError: the process that wrote it is gone.
        CorruptError: the file holds something else than was written.
    """
    try:
        payload = Path(path).read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"cannot load the model in {path}: {error.strerror}", next_step="start the server again"
        ) from error
    # Code is run from it: whatever is not just what the supervisor wrote stays unread.
    if digest_bytes(payload).removeprefix("b3:") != Path(path).stem:
        raise CorruptError(f"{path} was changed since it was written", next_step="start the server again")
    return Code(module=None, path=None, qualname="model", config={}, payload=payload).resolve()()


def _same(model: T) -> T:
    return model


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="shoal-models-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    # A forked child that ends must not take the folder of its parent with it.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
