import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.data.sources.records import count_lines, cut_lines, cut_records, ends_inside, find_records, quoted_spans

VALUES = st.text(st.sampled_from('ab,"\n '), max_size=6)


def as_csv(rows: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


@given(st.lists(st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=8))
def test_finds_every_record_on_its_line(rows: list[list[str]]) -> None:
    data = as_csv(rows)
    expected = [as_csv([row]) for row in rows]

    records = find_records(data, b",")

    assert [records.content(data, index) + b"\n" for index in range(len(records))] == expected
    lines = np.cumsum([0, *(record.count(b"\n") for record in expected[:-1])])
    assert records.lines.tolist() == lines.tolist()


@given(st.lists(st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=8), st.integers(0, 60))
def test_cuts_only_between_records(rows: list[list[str]], size: int) -> None:
    data = as_csv(rows)
    borders = {0, *np.cumsum([len(as_csv([row])) for row in rows]).tolist()}

    cut = cut_records(data[:size], b",")

    assert cut in borders
    assert cut == max(border for border in borders if border <= min(size, len(data)))


def test_a_quote_inside_a_value_that_is_not_quoted_opens_nothing() -> None:
    data = b'1,5" pipe\n2,x\n'

    assert quoted_spans(data, b",") == ([], None)
    assert cut_records(data, b",") == len(data)
    assert len(find_records(data, b",")) == 2


def test_a_stray_quote_does_not_hide_an_open_value() -> None:
    data = b'1,5" pipe\n2,"multi\nline'

    assert cut_records(data, b",") == len(b'1,5" pipe\n')
    assert ends_inside(data, b",")
    assert len(find_records(data + b'"\n', b",")) == 2


@given(st.text(st.sampled_from('a,"\n\r'), max_size=30))
@pytest.mark.parametrize("is_compiled", [True, False])
def test_compiled_or_not_what_is_inside_a_value_is_what_its_quotes_say(is_compiled: bool, text: str) -> None:
    data = text.encode()
    spans, open_at = quoted_spans(data, b",")
    inside = [*spans, *([] if open_at is None else [(open_at, len(data))])]
    ends = [at for at, byte in enumerate(data) if byte == 10 and not any(a < at < b for a, b in inside)]

    with pytest.MonkeyPatch.context() as patch:
        if not is_compiled:
            patch.setattr("shoal.data.compiled.parsing", None)
        assert cut_records(data, b",") == (ends[-1] + 1 if ends else 0)
        assert ends_inside(data, b",") == (open_at is not None)
        if b"\r" not in data:
            assert set(find_records(data, b",").ends.tolist()) <= {*ends, len(data)}


@pytest.mark.parametrize("size", range(60, 140))
def test_a_value_too_long_to_be_one_ends_with_its_line_wherever_the_text_is_cut(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shoal.data.sources.records._MAX_VALUE_BYTES", 30)
    data = b'1,a\n2,"open\n' + b"3,ccccc\n" * 10 + b'4,"d"\n'

    assert cut_records(data[:size], b",") == len(b'1,a\n2,"open\n')


def test_a_quote_that_is_never_closed_is_found() -> None:
    assert quoted_spans(b'"a"\n"b\n', b",") == ([(0, 2)], 4)


def test_blank_lines_and_lone_returns_are_no_records_but_lines() -> None:
    data = b"a\n\n\r\nb\rc"

    records = find_records(data, b",")

    assert [records.content(data, index) for index in range(len(records))] == [b"a", b"b", b"c"]
    assert records.lines.tolist() == [0, 3, 4]
    assert records.breaks(None, 1) == ((1, 4),)


@pytest.mark.parametrize(
    ("data", "num_lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2), (b"\n" * 600_000, 600_000)]
)
def test_counts_lines(data: bytes, num_lines: int) -> None:
    assert count_lines(data) == num_lines


def test_cuts_after_the_last_line_end() -> None:
    assert cut_lines(b"a\nb") == 2
