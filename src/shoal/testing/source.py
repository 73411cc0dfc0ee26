"""What every source of rows must keep."""

from pathlib import Path

import pyarrow as pa
import pytest

from shoal.base import digest_file
from shoal.data import Source, ingest


class SourceContract:
    """The suite for `Source`: subclass it and give a fixture `source` that has at least two rows."""

    @pytest.fixture
    def source(self) -> Source:
        """Return the source under test, not read yet."""
        raise NotImplementedError

    def test_is_recognised(self, source: Source) -> None:
        """It has the methods that make `shoal.data.ingest` take it as a source."""
        assert isinstance(source, Source)

    def test_all_batches_have_the_same_columns(self, source: Source) -> None:
        """Rows come as record batches of one schema."""
        schemas = {str(batch.schema) for batch in source.record_batches()}

        assert len(schemas) == 1

    def test_facts_are_complete_once_all_rows_were_read(self, source: Source) -> None:
        """It tells where rows came from: every file that it names has the digest and some of the rows."""
        num_rows = sum(batch.num_rows for batch in source.record_batches())

        facts = source.facts()

        assert facts
        assert all(0 < fact.num_rows <= num_rows for fact in facts)
        assert all(fact.digest == digest_file(fact.path) for fact in facts if Path(fact.path).is_file())

    def test_its_rows_can_be_stored(self, source: Source, tmp_path: Path) -> None:
        """Every column has a type that a dataset stores, and no row is lost."""
        seen: list[int] = []

        dataset = ingest(source, tmp_path / "dataset", progress=seen.append)

        assert dataset.num_rows == seen[-1] >= 2
        assert pa.Table.from_batches(dataset.batches()).num_rows == dataset.num_rows
