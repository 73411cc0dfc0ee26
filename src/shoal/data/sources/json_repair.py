"""The careful reading of JSON lines in which something is amiss: which of them cannot be rows, and why."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shoal.data.sources.dtypes import dtype_text
from shoal.data.sources.records import Records

_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line is no row; one whose values are merely of another type may become a row of a wider one."""

    reason: str
    may_need_a_wider_type: bool = False


def find_faults(
    data: bytes, records: Records, schema: pa.Schema, read: Callable[[bytes], pa.Table]
) -> dict[int, Fault]:
    """Find the lines that cannot be rows of the schema, by their index among the records.

    Args:
        data: the lines.
        records: where they are.
        schema: the types they should have, nested as in the text.
        read: parses lines to a table, or raises.
    """
    faults: dict[int, Fault] = {}
    for index in range(len(records)):
        fault = _judge(records.content(data, index), schema)
        if fault is not None:
            faults[index] = fault
    left = np.setdiff1d(np.arange(len(records)), list(faults))
    _halve(data, records, left, read, faults)
    return faults


def _judge(line: bytes, schema: pa.Schema) -> Fault | None:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return Fault("it is not UTF-8")
    except (ValueError, RecursionError) as error:
        return Fault(f"it is no JSON ({error})")
    if not isinstance(value, dict):
        return Fault(f"it is a JSON {type(value).__name__}, expected an object")
    return _judge_object(value, pa.struct(schema), "")


def _judge_object(value: dict[str, Any], kind: pa.DataType, prefix: str) -> Fault | None:
    for key, item in value.items():
        place = kind.get_field_index(key)
        if place < 0:
            return Fault(f"key {prefix + key!r} is not among the known ones", may_need_a_wider_type=True)
        wanted = kind.field(place).type
        if isinstance(item, dict) and pa.types.is_struct(wanted):
            fault = _judge_object(item, wanted, f"{prefix}{key}.")
            if fault is not None:
                return fault
        elif item is not None and not _fits(item, wanted):
            text = json.dumps(item, ensure_ascii=False)[:_SHOWN_CHARACTERS]
            return Fault(f"key {prefix + key!r} is {text}, expected {dtype_text(wanted)}", may_need_a_wider_type=True)
    return None


def _fits(value: object, kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_boolean(kind):
        return isinstance(value, bool)
    if types.is_integer(kind):
        bits = kind.bit_width - (not types.is_unsigned_integer(kind))
        low = 0 if types.is_unsigned_integer(kind) else -(1 << bits)
        return isinstance(value, int) and not isinstance(value, bool) and low <= value < 1 << bits
    if types.is_floating(kind):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if types.is_list(kind):
        return isinstance(value, list) and all(item is None or _fits(item, kind.value_type) for item in value)
    # Text that should be an instant is left to the parser, which alone knows its forms.
    return isinstance(value, str) and not types.is_null(kind) and not types.is_struct(kind)


def _halve(
    data: bytes, records: Records, part: np.ndarray, read: Callable[[bytes], pa.Table], faults: dict[int, Fault]
) -> None:
    if not len(part):
        return
    try:
        read(records.joined(data, part))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        if len(part) == 1:
            faults[int(part[0])] = Fault(str(error), may_need_a_wider_type=True)
            return
        for half in (part[: len(part) // 2], part[len(part) // 2 :]):
            _halve(data, records, half, read, faults)
