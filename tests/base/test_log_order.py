import resource
from contextlib import contextmanager

import pyarrow as pa
import pytest

from shoal.base import MergedReader, NotFoundError, SegmentLog, SegmentReader, StorageFullError, open_log
from shoal.base.log_order import OrderWriter, part_folder

SCHEMA = pa.schema([("value", pa.int64())])


class Part:
    """One writer of a log, and what it tells of."""

    def __init__(self, main, part):
        self.log = SegmentLog(part_folder(main, part), SCHEMA)
        self.order = OrderWriter(main, part)

    def write(self, *values):
        self.log.append(pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA))
        self.order.tell(self.log.sync())


@pytest.fixture
def main(tmp_path):
    return tmp_path / "m"


@pytest.fixture
def open_part(main):
    parts = []

    def open_part(number):
        parts.append(Part(main, number))
        return parts[-1]

    yield open_part
    for part in parts:
        part.log.close()


@contextmanager
def room_for(path, num_bytes):
    """No file of this process may become longer than a certain one and so many bytes: as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.stat().st_size if path.exists() else 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def values(reader, since=0):
    return [(row + at, value) for row, batch in reader.read(since) for at, value in enumerate(batch["value"].tolist())]


def test_rows_of_all_parts_are_read_in_the_order_they_were_told(main, open_part):
    zero, one = open_part(0), open_part(1)
    one.write(1, 2)
    zero.write(3)
    one.write(4)
    zero.write(5, 6)

    reader = open_log(main)

    assert values(reader) == list(enumerate([1, 2, 3, 4, 5, 6]))
    assert values(reader, 1) == list(enumerate([2, 3, 4, 5, 6], start=1))
    assert [reader.row(number)["value"] for number in range(6)] == [1, 2, 3, 4, 5, 6]
    assert reader.schema == SCHEMA


def test_a_reader_sees_what_is_added(main, open_part):
    zero, one = open_part(0), open_part(1)
    zero.write(1)
    reader = MergedReader(main)
    before = values(reader)
    one.write(2)

    assert before == [(0, 1)]
    assert values(reader, 1) == [(1, 2)]
    assert reader.num_rows == 2


def test_rows_of_a_single_writer_before_keep_their_numbers(main, open_part):
    with SegmentLog(main, SCHEMA) as alone:
        alone.append(pa.record_batch([pa.array([1, 2])], schema=SCHEMA))
    open_part(1).write(3)
    open_part(0).write(4)

    assert values(open_log(main)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_rows_that_a_killed_writer_did_not_tell_of_are_told_by_the_next(main, open_part):
    zero = open_part(0)
    zero.write(1)
    zero.log.append(pa.record_batch([pa.array([2])], schema=SCHEMA))
    zero.log.close()

    again = open_part(0)
    again.order.tell(again.log.sync())

    assert values(open_log(main)) == [(0, 1), (1, 2)]


@pytest.mark.parametrize("torn", [b"\n1 7", b"\n1", b"\n"])
def test_a_torn_record_is_none_and_swallows_none(main, open_part, torn):
    open_part(0).write(1)
    with (main / "order").open("ab") as order:
        order.write(torn)
    open_part(1).write(2)

    assert values(open_log(main)) == [(0, 1), (1, 2)]


# "\n1 1.\n" has six bytes; the last of them adds nothing.
@pytest.mark.parametrize("num_bytes", range(7))
def test_a_record_that_does_not_fit_is_told_later_and_once(main, open_part, num_bytes):
    zero, one = open_part(0), open_part(1)
    zero.write(1)
    one.log.append(pa.record_batch([pa.array([2])], schema=SCHEMA))
    durable = one.log.sync()
    early = MergedReader(main)

    with room_for(main / "order", num_bytes):
        if num_bytes < 5:
            with pytest.raises(StorageFullError, match="order"):
                one.order.tell(durable)
        else:
            one.order.tell(durable)
    seen_while_full = early.num_rows
    zero.write(3)
    one.order.tell(durable)
    zero.write(4)

    assert seen_while_full == (1 if num_bytes < 5 else 2)
    expected = [1, 3, 2, 4] if num_bytes < 5 else [1, 2, 3, 4]
    assert values(open_log(main)) == values(early) == list(enumerate(expected))


@pytest.mark.parametrize("num_bytes", range(7))
def test_a_writer_that_died_after_a_torn_record_is_followed_by_one_that_tells_all(main, open_part, num_bytes):
    zero, one = open_part(0), open_part(1)
    zero.write(1)
    one.log.append(pa.record_batch([pa.array([2])], schema=SCHEMA))
    durable = one.log.sync()
    with room_for(main / "order", num_bytes):
        try:
            one.order.tell(durable)
        except StorageFullError:
            """It dies of something else now."""
    one.log.close()

    open_part(1).write(3)

    assert values(open_log(main)) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("num_bytes", [0, 1, 4])
def test_an_order_that_could_not_be_begun_is_begun_by_the_next(main, open_part, num_bytes):
    with SegmentLog(main, SCHEMA) as alone:
        alone.append(pa.record_batch([pa.array([1, 2])], schema=SCHEMA))

    with room_for(main / "order", num_bytes), pytest.raises(StorageFullError):
        OrderWriter(main, 1)
    open_part(1).write(3)
    open_part(0).write(4)

    assert values(open_log(main)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_a_single_writer_needs_no_order_unless_there_were_several(main, open_part):
    assert not OrderWriter.is_needed(main, 1)
    assert OrderWriter.is_needed(main, 2)

    open_part(1)

    assert OrderWriter.is_needed(main, 1)


def test_a_log_of_one_writer_is_opened_as_before(main):
    with SegmentLog(main, SCHEMA):
        assert isinstance(open_log(main), SegmentReader)


def test_what_is_not_there_is_not_found(main, tmp_path, open_part):
    open_part(0).write(1)

    with pytest.raises(NotFoundError, match="row 1 in the log"):
        open_log(main).row(1)
    with pytest.raises(NotFoundError, match="several writers"):
        MergedReader(tmp_path)


def test_waiting_for_rows_ends(main, open_part):
    open_part(0)

    assert list(MergedReader(main).read(0, wait_s=0.05)) == []
