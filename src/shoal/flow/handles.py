"""The handles that a flow may meet in kept results: who opens each kind, without importing anyone before."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from shoal.base import File, Handle, is_handle, register_handle

# As their own floors register them: a result kept by one process is read by another that imported only the flow.
OPENERS = {
    "checkpoint": "shoal.train.checkpoint:open_checkpoint",
    "dataset": "shoal.data.opening:open_address",
    "model_version": "shoal.store.opening:open_model_version",
    "package": "shoal.model.reading:open_package_handle",
}

for _kind, _opener in OPENERS.items():
    register_handle(_kind, _opener)

__all__ = ["OPENERS", "File", "handles_in"]


def handles_in(value: object) -> Iterator[Handle]:
    """Yield every handle inside lists, tuples, sets, dicts and dataclasses."""
    if is_handle(value):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from handles_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from handles_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from handles_in(getattr(value, field.name, None))
