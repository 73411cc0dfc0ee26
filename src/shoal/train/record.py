"""Tasks and strategies as JSON, for the record of a run and for the process that resumes it."""

import dataclasses
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, TypeVar, cast, get_type_hints, runtime_checkable

from shoal.base import ConfigError, InputError, Json, decode, encode
from shoal.runtime import code_digest
from shoal.store import RunRecord
from shoal.train.task import Task

T = TypeVar("T")


@runtime_checkable
class Wrapped(Protocol):
    """A task around objects that have no JSON form: it is recorded by their names, and cannot be built from these."""

    def record_fields(self) -> dict[str, Json]:
        """What stands for its fields in the record."""

    def code_parts(self) -> tuple[object, ...]:
        """The functions and classes that its code is made of."""


def describe(value: object) -> dict[str, Json]:
    """The class and the fields of a task, a strategy, a callback and the like.

    Raises:
        ConfigError: a field's value has no JSON form.
    """
    kind = type(value)
    if isinstance(value, Wrapped):
        fields = value.record_fields()
    else:
        fields = {name: _plain(value, name, item) for name, item in _fields_of(value).items()}
    return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": fields}


def revive(described: Mapping[str, Any], expected: type[T]) -> T:
    """The value that `describe` was given, in another process or year.

    Raises:
        ConfigError: its class is not to be found there, or its fields are others today.
    """
    name = str(described["class"])
    module, _, qualname = name.partition(":")
    try:
        kind: Any = import_module(module)
        for part in qualname.split("."):
            kind = getattr(kind, part)
        # Its fields are names of what it was made of, and no arguments.
        if isinstance(kind, type) and hasattr(kind, "record_fields"):
            raise _not_again(f"{name} from its record: it was made of objects that no record can hold")
        value: object = kind(**_typed(kind, described["fields"]))
    except (ImportError, AttributeError, NameError, InputError, TypeError) as error:
        raise _not_again(f"{name} with {dict(described['fields'])} again: {error}") from error
    if not isinstance(value, expected):
        raise ConfigError(
            f"cannot use {name}: it is no {expected.__name__} any more", next_step="restore the class it was"
        )
    return value


def warn_of_other_code(record: RunRecord, task: Task, so: str) -> None:
    """Warn where a task's code is not what its run was started with; `so` says what comes of it."""
    if record.code != task_code(task):
        warnings.warn(
            f"run {record.id}: the task's code has changed since it was started; {so}", RuntimeWarning, stacklevel=3
        )


def warn_of_lost_settings(task: Task) -> None:
    """Warn where a task keeps settings that are not recorded, as it is no dataclass."""
    settings = getattr(task, "__dict__", {})
    if settings and not isinstance(task, Wrapped) and not dataclasses.is_dataclass(task):
        warnings.warn(
            f"the settings {', '.join(settings)} of {type(task).__qualname__} are not recorded, as it is no "
            "dataclass: resume(...) will need task=; for a task that can be built again make it a frozen dataclass",
            RuntimeWarning,
            stacklevel=4,
        )


def _not_again(what: str) -> ConfigError:
    return ConfigError(f"cannot build {what}", next_step="pass the same task to resume(..., task=...)")


def task_code(task: Task) -> str:
    """Digest of all code of ours that the task is seen to reach."""
    if not isinstance(task, Wrapped):
        return code_digest(type(task)).digest
    # Together, as a value: taken one by one, torch's own functions would have torch itself walked as their project.
    return code_digest(cast("type", task.code_parts())).digest


def _fields_of(value: object) -> dict[str, object]:
    if not dataclasses.is_dataclass(value):
        return {}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _typed(kind: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as their annotations want them: JSON knows no tuples."""
    # Field by field, as msgspec leaves a mark on a dataclass that it has built, and then it cannot be pickled.
    hints = get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    return {name: decode(encode(value), hints[name]) if name in hints else value for name, value in fields.items()}


def _plain(owner: object, name: str, value: object) -> Json:
    kind = type(owner)
    try:
        plain: Json = decode(encode(value))
    except InputError as error:
        is_task = isinstance(owner, Task)
        rest = "in build()" if is_task else f"in a method of {kind.__qualname__}, when that is first called"
        advice = f"give {name} a number, text, a list or a dict of these, and make the rest {rest}"
        raise ConfigError(
            f"cannot record field {name!r} of {kind.__module__}.{kind.__qualname__}: {value!r:.200} is a "
            f"{type(value).__name__}, which has no JSON form",
            next_step=advice,
        ) from error
    return plain
