"""Nested values with tensors in them, taken apart into JSON and a list of tensors, and put together again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from shoal.base import CorruptError, Json, UnsupportedError


def flatten(value: object, tensors: list[torch.Tensor], where: str) -> Json:
    """Return the JSON that stands for a value; its tensors are appended to `tensors`, uncopied.

    Plain values, lists, tuples, dicts (any mapping becomes a dict, only a Counter stays one), tensors, arrays and
    NumPy's scalars come back with their types. `where` names the value in errors.

    Raises:
        UnsupportedError: there is something else in it; the message says where and of which type.
    """
    # The exact type: NumPy's float64 is a float too, and must not lose its type here.
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return cast("Json", value)
    if isinstance(value, torch.Tensor):
        return {"$tensor": _keep(value, tensors)}
    if kind is int:
        number = cast("int", value)
        return number if abs(number) < 2**63 else {"$int": str(number)}
    if kind is float:
        real = cast("float", value)
        return real if real - real == 0 else {"$float": repr(real)}
    if kind is list or kind is tuple:
        values = cast("Sequence[object]", value)
        items = [flatten(item, tensors, f"{where}[{index}]") for index, item in enumerate(values)]
        return items if kind is list else {"$tuple": items}
    if kind is dict or isinstance(value, Mapping):
        # As pairs: keys may be numbers, and a dict's order is part of what it says.
        pairs = [
            [flatten(key, tensors, f"a key of {where}"), flatten(item, tensors, f"{where}.{key}")]
            for key, item in cast("Mapping[object, object]", value).items()
        ]
        return {"$counter" if isinstance(value, Counter) else "$dict": pairs}
    if kind is bytes:
        return {"$bytes": _keep(torch.from_numpy(np.frombuffer(cast("bytes", value), np.uint8).copy()), tensors)}
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "biuf":
        mark = "$scalar" if isinstance(value, np.generic) else "$array"
        return {mark: _keep(torch.from_numpy(np.array(value, order="C")), tensors)}
    raise UnsupportedError(
        f"cannot write {where} into a checkpoint: it is a {kind.__module__}.{kind.__qualname__}, "
        "expected plain values, lists, dicts and tensors",
        next_step="keep its numbers in tensors or plain values",
    )


def rebuild(skeleton: Any, tensors: Sequence[torch.Tensor]) -> Any:  # noqa: ANN401  # JSON in, any value out
    """Return the value that `flatten` was given; tensors are those of the list, arrays share memory with them.

    Raises:
        CorruptError: this is no JSON that `flatten` makes.
    """
    if isinstance(skeleton, list):
        return [rebuild(item, tensors) for item in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    try:
        ((mark, content),) = skeleton.items()
        return _rebuild_marked(mark, content, tensors)
    except (ValueError, TypeError, IndexError) as error:
        raise CorruptError(
            f"cannot rebuild a checkpoint's values: {str(skeleton)[:80]} stands for nothing",
            next_step="use an older checkpoint",
        ) from error


def _rebuild_marked(mark: str, content: Any, tensors: Sequence[torch.Tensor]) -> object:  # noqa: ANN401  # JSON
    match mark:
        case "$dict" | "$counter":
            pairs = {rebuild(key, tensors): rebuild(item, tensors) for key, item in content}
            return Counter(pairs) if mark == "$counter" else pairs
        case "$tuple":
            return tuple(rebuild(item, tensors) for item in content)
        case "$tensor":
            return tensors[content]
        case "$array":
            return tensors[content].numpy()
        case "$scalar":
            return tensors[content].numpy()[()]
        case "$bytes":
            return tensors[content].numpy().tobytes()
        case "$int":
            return int(content)
        case "$float":
            return float(content)
        case _:
            raise ValueError(mark)


def _keep(tensor: torch.Tensor, tensors: list[torch.Tensor]) -> int:
    tensors.append(tensor.detach())
    return len(tensors) - 1
