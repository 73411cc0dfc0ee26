"""The error tree: every error that a user can cause says what to do next.

ShoalError
|-- ConfigError (ValueError)         a setting or configuration value is wrong
|-- InputError (ValueError)          a caller's argument or request is wrong
|-- DataError
|   |-- SourceError                  a source is unreadable or contradicts itself
|   |-- SchemaError                  columns or types differ from what is expected
|   |-- RemoteError                  a remote store does not give or take what it should
|   `-- ShardMissingError            a dataset names a file that is not there
|-- CorruptError                     bytes differ from their digest
|-- StorageFullError (OSError)       no room for a file; what was there before is untouched
|-- NotFoundError (LookupError)      nothing bears this name
|-- ConflictError                    someone else won: a lock, a name or a version is taken
|-- UnsupportedError                 valid, but not something shoal can do
|-- WorkerError                      a worker process died or raised
|-- DivergedError                    training left the finite numbers
|-- GateError                        a model did not pass what it must pass
|-- PackageError                     a model cannot be packaged, or a package cannot be used
|-- StepError                        a step of a flow failed
`-- ServeError                       a served request failed
    `-- UnavailableError             ... and may succeed when sent again later
"""

import errno
from collections.abc import Mapping
from typing import Any


class ShoalError(Exception):
    """The root of all errors that shoal raises on purpose.

    `message` says what could not be done, what was found and what was expected; `next_step` what to do now. Errors
    survive pickling with all their fields, so they cross between processes of one tree.
    """

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}; next: {self.next_step}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from `args` alone by default, which loses keyword-only fields.
        return _revive, (type(self), self.__dict__.copy())


def _revive(kind: type[ShoalError], fields: dict[str, Any]) -> ShoalError:
    error = kind.__new__(kind, fields["message"])
    error.args = (fields["message"],)
    error.__dict__.update(fields)
    return error


class ConfigError(ShoalError, ValueError):
    """A setting or a configuration value is wrong or unknown."""


class InputError(ShoalError, ValueError):
    """An argument or a request is wrong; the caller must change it."""


class DataError(ShoalError):
    """Data cannot be used as it is."""


class SourceError(DataError):
    """A source of records is unreadable, truncated or contradicts itself."""


class SchemaError(DataError):
    """Columns or types differ from what is expected."""


class ShardMissingError(DataError):
    """A dataset version names a shard that is not in its folder."""


class RemoteError(DataError):
    """A remote store refused, failed for too long or gave something else than expected; the message names the URL."""


class CorruptError(ShoalError):
    """Bytes differ from the digest that was recorded for them; the message names the file."""


class StorageFullError(ShoalError, OSError):
    """There is no room to write a file; whatever stood under its name before is untouched."""

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.errno = errno.ENOSPC


class NotFoundError(ShoalError, LookupError):
    """Nothing bears the given name, version, digest or path."""


class ConflictError(ShoalError):
    """Someone else holds the lock, took the name or published the version first."""


class UnsupportedError(ShoalError):
    """The request is understood and valid, but lies outside what shoal does."""


class WorkerError(ShoalError):
    """A worker process died or raised; it keeps the place and the traceback of the failure.

    The traceback is attached as a note too, so that Python prints it below the error.
    """

    def __init__(
        self,
        message: str,
        *,
        next_step: str,
        role: str = "worker",
        rank: int = 0,
        host: str | None = None,
        pid: int | None = None,
        traceback_text: str = "",
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.role = role
        self.rank = rank
        self.host = host
        self.pid = pid
        self.traceback_text = traceback_text
        if traceback_text:
            self.add_note(traceback_text)


class DivergedError(ShoalError):
    """A training's loss became infinite or no number; `step`, counted from 1, says when."""

    def __init__(self, message: str, *, next_step: str, step: int = 0) -> None:
        super().__init__(message, next_step=next_step)
        self.step = step


class GateError(ShoalError):
    """A model did not pass its gates, or their results belong to another package."""


class PackageError(ShoalError):
    """A model cannot be packaged faithfully, or a package cannot be used."""


class StepError(ShoalError):
    """A step of a flow failed; `step` names it and `inputs` tells what it was given, in words."""

    def __init__(
        self, message: str, *, next_step: str, step: str = "", inputs: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.step = step
        self.inputs = dict(inputs or {})


class ServeError(ShoalError):
    """A served request failed; `status` is its HTTP status."""

    def __init__(self, message: str, *, next_step: str, status: int = 500) -> None:
        super().__init__(message, next_step=next_step)
        self.status = status


class UnavailableError(ServeError):
    """The service refused the request for now; `retry_after_s` is its own estimate of when to come back."""

    def __init__(self, message: str, *, next_step: str, status: int = 503, retry_after_s: float | None = None) -> None:
        super().__init__(message, next_step=next_step, status=status)
        self.retry_after_s = retry_after_s
