from pathlib import Path

import pytest

from shoal.base import SourceError
from shoal.data import CsvSource, ParquetSource, Source, ingest
from shoal.data.sources import RejectingSource, SchemaWidenedError


def test_sources_are_told_apart_by_what_they_can_do(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "a.parquet").write_bytes(b"")
    typed, text = ParquetSource(tmp_path / "a.parquet"), CsvSource(tmp_path / "a.csv")

    assert isinstance(typed, Source)
    assert not isinstance(typed, RejectingSource)
    assert isinstance(text, RejectingSource)


def test_a_source_that_needs_a_second_reading_is_ingested_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("x\n" + "1\n" * 10_000 + "2.5\n" + "late\n")
    monkeypatch.setattr("shoal.data.sources.text._WHOLE_BYTES", 100)
    monkeypatch.setattr("shoal.data.sources.text._HEAD_BYTES", 1_000)
    monkeypatch.setattr("shoal.data.sources.text._NUM_SAMPLES", 0)

    dataset = ingest(tmp_path / "a.csv", tmp_path / "dataset")

    assert (dataset.num_rows, str(dataset.schema["x"])) == (10_002, "x: string")
    assert issubclass(SchemaWidenedError, SourceError)
