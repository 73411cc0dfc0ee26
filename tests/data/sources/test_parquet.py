from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from shoal.base import SourceError
from shoal.data import ParquetSource, Source
from shoal.data.sources import positions_of
from shoal.testing import SourceContract


class TestParquetSource(SourceContract):
    @pytest.fixture
    def make_source(self, tmp_path: Path, table: pa.Table) -> Callable[[], Source]:
        for name in "ab":
            pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
        return lambda: ParquetSource(str(tmp_path / "*.parquet"))


def test_large_rows_come_in_small_batches(tmp_path: Path) -> None:
    images = pa.FixedSizeListArray.from_arrays(
        np.random.default_rng(0).integers(0, 256, 3_000 * 9_000, np.uint8), 9_000
    )
    pyarrow.parquet.write_table(pa.table({"image": images}), tmp_path / "a.parquet")

    batches = list(ParquetSource(tmp_path / "a.parquet").record_batches())

    assert max(batch.num_rows for batch in batches) < 2_500
    assert [positions_of(batch).first for batch in batches] == np.cumsum(
        [0, *(b.num_rows for b in batches[:-1])]
    ).tolist()


def test_columns_can_be_chosen(tmp_path: Path, table: pa.Table) -> None:
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")

    assert next(ParquetSource(tmp_path / "a.parquet", columns=["t"]).record_batches()).schema.names == ["t"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_what_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)

    with pytest.raises(SourceError, match=r"a\.parquet"):
        list(ParquetSource(tmp_path / "a.parquet").record_batches())
