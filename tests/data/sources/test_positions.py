import pyarrow as pa
import pytest

from shoal.data.sources.positions import Positions, mark, positions_of

BATCH = pa.RecordBatch.from_pydict({"x": list(range(10))})


@pytest.mark.parametrize("breaks", [(), ((2, 9), (5, 30))])
def test_a_marked_batch_tells_where_its_rows_stood(breaks: tuple[tuple[int, int], ...]) -> None:
    positions = Positions("a.csv", 4, "line", breaks)

    found = positions_of(mark(BATCH, positions))

    assert found == positions
    assert [found[index] for index in (0, 1, 2, 4, 5, 6)] == ([4, 5, 9, 11, 30, 31] if breaks else [4, 5, 6, 8, 9, 10])
    assert found.describe(1) == "a.csv, line 5"


def test_a_batch_that_says_nothing_has_no_positions() -> None:
    assert positions_of(BATCH) is None


def test_marking_copies_no_rows() -> None:
    marked = mark(BATCH, Positions("a.csv", 0, "row"))

    assert marked.column(0).buffers()[1].address == BATCH.column(0).buffers()[1].address
