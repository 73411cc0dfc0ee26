"""Where an open record batch keeps a column: its values as arrays over the file's pages, ready to be indexed by row."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["fixed", "bits", "variable", "absent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One column of one record batch from some row on; the arrays begin with that row.

    `values` are bytes [num_rows, row_bytes] ("fixed"), a bitmap ("bits") or int32 offsets [num_rows + 1] into `items`
    ("variable"); a column that the batch was stored without is "absent". `dtype` is the type of one number as it is
    stored, perhaps narrower than the column's today. `valid` is a bitmap, None when no row is null. `first_bit` is
    where the bitmaps begin.
    """

    kind: Kind
    dtype: np.dtype[Any]
    values: NDArray[Any]
    items: NDArray[np.uint8] | None = None
    valid: NDArray[np.uint8] | None = None
    first_bit: int = 0
