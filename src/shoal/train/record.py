"""Tasks and strategies as JSON, for the record of a run and for the process that resumes it."""

import dataclasses
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar, cast, get_type_hints

from torch import nn

from shoal.base import ConfigError, InputError, Json, decode, encode
from shoal.runtime import code_digest
from shoal.train.task import ModuleTask, Task

T = TypeVar("T")


def describe(value: object) -> dict[str, Json]:
    """The class and the fields of a task or strategy.

    Raises:
        ConfigError: a field's value has no JSON form.
    """
    kind = type(value)
    if isinstance(value, ModuleTask):
        fields: dict[str, Json] = {
            "module": _name_of(value.module),
            "inputs": list(value.columns),
            "target": value.target,
            "loss": _name_of(value.compute_loss),
            "optimizer": _name_of(value.make_optimizer),
            "metrics": sorted(value.measures),
        }
    else:
        fields = {name: _plain(kind.__qualname__, name, item) for name, item in _fields_of(value).items()}
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
        value: object = kind(**_typed(kind, described["fields"]))
    except (ImportError, AttributeError, NameError, InputError, TypeError) as error:
        raise ConfigError(
            f"cannot build {name} with {dict(described['fields'])} again: {error}",
            next_step="pass the same task to resume(..., task=...)",
        ) from error
    if not isinstance(value, expected):
        raise ConfigError(
            f"cannot use {name}: it is no {expected.__name__} any more", next_step="restore the class it was"
        )
    return value


def task_code(task: Task) -> str:
    """Digest of all code of ours that the task is seen to reach."""
    if not isinstance(task, ModuleTask):
        return code_digest(type(task)).digest
    module = type(task.module) if isinstance(task.module, nn.Module) else task.module
    # Together, as a value: taken one by one, torch's own functions would have torch itself walked as their project.
    parts = (module, task.compute_loss, task.make_optimizer, *task.measures.values())
    return code_digest(cast("type", parts)).digest


def _fields_of(value: object) -> dict[str, object]:
    if not dataclasses.is_dataclass(value):
        return {}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}


def _typed(kind: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as their annotations want them: JSON knows no tuples."""
    # Field by field, as msgspec leaves a mark on a dataclass that it has built, and then it cannot be pickled.
    hints = get_type_hints(kind) if dataclasses.is_dataclass(kind) else {}
    return {name: decode(encode(value), hints[name]) if name in hints else value for name, value in fields.items()}


def _plain(owner: str, name: str, value: object) -> Json:
    try:
        plain: Json = decode(encode(value))
    except InputError as error:
        raise ConfigError(
            f"cannot record field {name!r} of {owner}: {value!r} has no JSON form",
            next_step="keep numbers, text, lists and dicts in the fields, and make the rest in build()",
        ) from error
    return plain


def _name_of(part: object) -> str:
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}:{getattr(named, '__qualname__', '?')}"
