import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.base import SourceError
from shoal.data import CsvSource, Source
from shoal.data.sources.text import TextSource

Write = Callable[[str, bytes], Path]
LIMIT_BYTES = 900 << 20
READ_ALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
from shoal.data.sources.opening import open_source
print(sum(batch.num_rows for batch in open_source(sys.argv[1]).record_batches()))
"""


def test_rejects_are_told_as_the_reading_goes(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.data.sources.blocks.BLOCK_BYTES", 100)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 100)
    source: TextSource = CsvSource(write("a.csv", b"x,t\n" + b"1,a\n2\n" * 200), on_bad="quarantine")
    most = total = 0

    for _ in source.record_batches():
        waiting = sum(batch.num_rows for batch in source.rejects())
        most, total = max(most, waiting), total + waiting

    assert total + sum(batch.num_rows for batch in source.rejects()) == 200
    assert most < 50


def test_a_second_reading_begins_anew(write: Write, rows_of: Callable[[Source], list[object]]) -> None:
    source = CsvSource(write("a.csv", b"x\n1\n2\n"))

    assert rows_of(source) == rows_of(source)
    assert [fact.num_rows for fact in source.facts()] == [2]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    line = b"123456789,0.123456789,some words that fill the line up a little\n"
    head = b"a,b,c\n"
    if suffix == ".jsonl":
        line, head = b'{"a":123456789,"b":0.123456789,"c":"some words that fill the line up"}\n', b""
    with path.open("wb") as file:
        file.write(head)
        for _ in range(400):
            file.write(line * 50_000)
    num_rows = 400 * 50_000

    done = subprocess.run(
        [sys.executable, "-c", READ_ALL.format(limit=LIMIT_BYTES), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert path.stat().st_size > LIMIT_BYTES
    assert done.stdout.strip() == str(num_rows), done.stderr[-2_000:]


@pytest.mark.slow
def test_a_bad_row_at_line_seven_million_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = b"".join(b"%d,%d.5\n" % (index, index) for index in range(1_000_000))
    with path.open("wb") as file:
        file.write(b"x,y\n")
        file.write(rows * 7)
        file.seek(0)
    data = path.read_bytes()
    start = len(b"x,y\n") + 6 * len(rows) + len(b"\n".join(rows.split(b"\n")[:999_998])) + 1
    line_end = data.index(b"\n", start)
    path.write_bytes(data[:start] + b"broken" + data[line_end:])
    source = CsvSource(path, on_bad="quarantine")

    num_rows = sum(batch.num_rows for batch in source.record_batches())

    assert num_rows == 6_999_999
    assert [row["position"] for batch in source.rejects() for row in batch.to_pylist()] == [7_000_000]
    with pytest.raises(SourceError, match=r"a\.csv, line 7000000: it has 1 values, expected 2; the line is 'broken'"):
        for _ in CsvSource(path).record_batches():
            pass
