"""What every source of rows must keep."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from shoal.base import digest_file
from shoal.data import Source, ingest
from shoal.data.sources import OnBad, RejectingSource, positions_of

_OWN_FIELDS = ["reason", "source", "position", "content"]


class SourceContract:
    """The suite for `Source`: subclass it and give a fixture `make_source` whose sources have two good rows or more."""

    @pytest.fixture
    def make_source(self) -> Callable[[], Source]:
        """Return what makes a source that was not read yet, each time over the same rows."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, make_source: Callable[[], Source]) -> Source:
        """Return the source under test, not read yet."""
        return make_source()

    def test_is_recognised(self, source: Source) -> None:
        """It has the methods that make `shoal.data.ingest` take it as a source."""
        assert isinstance(source, Source)

    def test_all_batches_have_the_same_columns(self, source: Source) -> None:
        """Rows come as record batches of one schema; only where they stood differs."""
        schemas = {str(batch.schema.remove_metadata()) for batch in source.record_batches()}

        assert len(schemas) == 1

    def test_a_fresh_source_gives_the_same_rows(self, make_source: Callable[[], Source]) -> None:
        """Two readings give equal rows in equal order."""
        first, second = (pa.Table.from_batches(make_source().record_batches()) for _ in range(2))

        assert first.equals(second)

    def test_facts_are_complete_once_all_rows_were_read(self, source: Source) -> None:
        """It tells where rows came from: every file that it names has the digest and some of the rows."""
        num_rows = sum(batch.num_rows for batch in source.record_batches())

        facts = source.facts()

        assert facts
        assert all(0 < fact.num_rows <= num_rows for fact in facts)
        assert all(fact.digest == digest_file(fact.path) for fact in facts if Path(fact.path).is_file())

    def test_positions_name_a_source_and_never_go_back(self, source: Source) -> None:
        """Where it says where rows stood, it names what the facts name, and numbers rise within it."""
        batches = list(source.record_batches())
        told = [(where, batch.num_rows) for batch in batches if (where := positions_of(batch)) is not None]

        places = [(where.source, where[index]) for where, num_rows in told for index in range(num_rows)]

        assert {name for name, _ in places} <= {fact.path for fact in source.facts()}
        assert all(left[0] != right[0] or left[1] < right[1] for left, right in pairwise(places))

    def test_bad_rows_are_told_once(self, source: Source) -> None:
        """A source that goes on after bad rows tells of each in the agreed columns, and then forgets it."""
        if not isinstance(source, RejectingSource):
            return
        source.on_bad = "quarantine"
        for _ in source.record_batches():
            pass

        told = list(source.rejects())

        assert all(batch.schema.names == _OWN_FIELDS for batch in told)
        assert list(source.rejects()) == []

    def test_its_rows_can_be_stored(self, source: Source, tmp_path: Path) -> None:
        """Every column has a type that a dataset stores, and no row is lost."""
        seen: list[int] = []

        on_bad: OnBad = "drop" if isinstance(source, RejectingSource) else "raise"
        dataset = ingest(source, tmp_path / "dataset", progress=seen.append, on_bad=on_bad)

        assert dataset.num_rows >= 2
        assert seen[-1] >= dataset.num_rows
        assert pa.Table.from_batches(dataset.batches()).num_rows == dataset.num_rows
