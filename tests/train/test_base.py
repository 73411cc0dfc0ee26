from hypothesis import given
from hypothesis import strategies as st

from shoal.train.base import GlobalBatch


@st.composite
def cuts(draw):
    batch_size = draw(st.integers(1, 300))
    return draw(st.integers(1, batch_size)), batch_size, draw(st.integers(1, 20))


def cut(num_rows, batch_size, num_parts):
    def read(part, num):
        return list(range(num_rows * part // num, num_rows * (part + 1) // num))

    return GlobalBatch.of(num_rows, batch_size=batch_size, num_parts=num_parts, read=read)


@given(cuts())
def test_every_row_is_in_one_micro_batch(sizes):
    batch = cut(*sizes)

    rows = [row for part, num in enumerate(batch.rows) if num for row in batch.read(part)]

    assert rows == list(range(sizes[0]))
    assert [len(batch.read(part)) for part, num in enumerate(batch.rows) if num] == [num for num in batch.rows if num]


@given(cuts())
def test_a_partial_batch_makes_no_crumbs(sizes):
    num_rows, batch_size, num_parts = sizes
    full = -(-batch_size // num_parts)

    filled = [num for num in cut(*sizes).rows if num]

    assert min(filled) >= min(num_rows, -(-full // 2))


def test_the_last_micro_batch_always_has_rows():
    assert cut(3, 64, 8).rows == [0, 0, 0, 0, 0, 0, 0, 3]
