import io

import pytest

from shoal.base import SourceError
from shoal.data.sources.blocks import read_blocks
from shoal.data.sources.records import cut_lines


@pytest.mark.parametrize("block_bytes", [1, 5, 1_000])
def test_blocks_are_whole_records_and_know_their_lines(monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    text = b"".join(b"line %d\n" % index for index in range(50)) + b"the end"
    monkeypatch.setattr("shoal.data.sources.blocks.BLOCK_BYTES", block_bytes)

    blocks = list(read_blocks(io.BytesIO(text[9:]), "a.csv", rest=text[:9], first_line=3, cut=cut_lines))

    assert b"".join(block.data for block in blocks) == text
    assert all(block.data.endswith(b"\n") for block in blocks[:-1])
    line = 3
    for block in blocks:
        assert (block.first_line, block.num_lines) == (line, block.data.count(b"\n") + (block is blocks[-1]))
        line += block.num_lines


def test_a_record_without_an_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shoal.data.sources.blocks.BLOCK_BYTES", 10)
    monkeypatch.setattr("shoal.data.sources.blocks._MAX_RECORD_BYTES", 50)

    with pytest.raises(SourceError, match=r"a\.csv: line 2 begins a record that has not ended after 60 bytes"):
        list(read_blocks(io.BytesIO(b"x" * 1_000), "a.csv", rest=b"", first_line=2, cut=cut_lines))
