"""How the outcome of rank 0's work travels to the other ranks of its job."""

import pickle
from typing import Any

from shoal.base import InputError, WorkerError
from shoal.runtime.by_value import dumps
from shoal.runtime.env.signals import AskedToStopError

_DONE, _ASKED, _FAILED = b"d", b"a", b"f"


def pack_outcome(result: object, error: BaseException | None) -> bytes:
    """What rank 0's work returned or raised, as bytes for processes of the same job."""
    if isinstance(error, KeyboardInterrupt):
        return _ASKED + str(error).encode()
    if error is not None:
        return _FAILED + f"{type(error).__name__}: {error}".encode()
    try:
        return _DONE + dumps(result)
    except InputError as broken:
        return _FAILED + f"its result cannot travel: {broken.message}".encode()


def unpack_outcome(outcome: bytes, rank: int) -> Any:  # noqa: ANN401  # whatever rank 0's work returned
    """What rank 0's work returned.

    Raises:
        AskedToStopError: it was interrupted.
        WorkerError: it raised anything else, or its result cannot be read here.
    """
    kind, body = outcome[:1], outcome[1:]
    if kind == _ASKED:
        raise AskedToStopError(body.decode() or "rank 0 was interrupted")
    if kind == _FAILED:
        raise _error(f"rank {rank} ends with rank 0, which failed: {body.decode()}", rank)
    try:
        return pickle.loads(body)  # noqa: S301  # from rank 0 of our own job, which sends us code as well
    except Exception as error:
        raise _error(f"rank {rank} cannot read what rank 0 returned: {error}", rank) from error


def _error(message: str, rank: int) -> WorkerError:
    return WorkerError(message, next_step="read what rank 0 wrote last", role="rank", rank=rank)
