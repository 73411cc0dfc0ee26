"""The compiled loops of ingestion, where a compiler was at hand when shoal was installed.

Each caller holds a twin in NumPy or Arrow that gives the same bytes, more slowly; `statistics` and `parsing` are None
where only those exist.
"""

import ctypes
from importlib import import_module
from types import ModuleType

import numpy as np
from xxhash import xxh3_64_intdigest


def _load(name: str) -> ModuleType | None:
    try:
        return import_module(f"shoal.data.{name}")
    except ImportError:
        return None


def _find_hash() -> int | None:
    # The function that xxhash's own Python face calls, found by its C name: from there a row costs no Python object.
    try:
        address = ctypes.cast(ctypes.CDLL(import_module("xxhash._xxhash").__file__).XXH3_64bits, ctypes.c_void_p).value
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    return address if statistics is not None and address is not None and _is_xxh3(statistics, address) else None


def _is_xxh3(loops: ModuleType, address: int) -> bool:
    # Every branch of XXH3 depends on the length alone: one input for each.
    data = bytes(range(256)) * 5
    found = np.empty(1, np.uint64)
    for length in (0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 512, 1_025):
        offsets = np.array([0, length], np.int32)
        loops.hash_rows(address, 1, [("t", 1, offsets, data, None)], found)
        if int(found[0]) != xxh3_64_intdigest(data[:length]):
            return False
    return True


statistics: ModuleType | None = _load("_statistics")
parsing: ModuleType | None = _load("_parsing")
hash_address: int | None = _find_hash()
