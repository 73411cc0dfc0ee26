"""One column of each kind that a batch may hold, with rows, for tests of what is made of batches."""

import numpy as np

from shoal.data import Column, Schema
from shoal.data.loading.packed import Packed, pack

MIXED_SCHEMA = Schema(
    (
        Column(name="image", dtype="uint8", shape=(2, 2)),
        Column(name="weight", dtype="float32", nullable=True),
        Column(name="text", dtype="string"),
        Column(name="tags", dtype="int16", is_list=True),
        Column(name="when", dtype="timestamp"),
    )
)


def mixed_arrays() -> dict[str, object]:
    """Three rows of it, as a batch holds them before it gets its format."""
    return {
        "image": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        "weight": np.array([0.5, 0, 1.5], np.float32),
        "weight_mask": np.array([True, False, True]),
        "text": pack(["a", "", "übel"], MIXED_SCHEMA["text"]),
        "tags": Packed(np.array([1, 2, 3], np.int16), np.array([0, 2, 2, 3])),
        "when": np.array([1, 2, 3]),
    }
