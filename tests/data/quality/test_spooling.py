from pathlib import Path

import pytest

from shoal.base import SourceError
from shoal.data import ingest
from shoal.data.quality import Range, Unique


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    path = tmp_path / "visits.csv"
    users = [f"u{number}" for number in range(50)]
    users[30] = "u3"
    path.write_text("\n".join(["user,x", *(f"{user},{place}" for place, user in enumerate(users))]) + "\n")
    return path


def test_a_repeated_key_is_named_with_its_line(visits: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"visits\.csv, line 32: .*expected 'user' that no row before it has"):
        ingest(visits, tmp_path / "b", checks=[Unique("user")])


def test_repeated_keys_are_quarantined_with_their_places_after_other_refusals(visits: Path, tmp_path: Path) -> None:
    dataset = ingest(visits, tmp_path / "b", checks=[Unique("user"), Range("x", 5)], on_bad="quarantine")

    assert dataset.num_rows == 45
    # The row that the key was first in was refused itself, so the later one is the first that came.
    assert [(each.reason, each.num_rows) for each in dataset.manifest.refused] == [("x: at least 5", 5)]


def test_places_count_the_rows_that_were_refused_before(visits: Path, tmp_path: Path) -> None:
    dataset = ingest(visits, tmp_path / "b", checks=[Range("x", 2), Unique("user")], on_bad="quarantine")

    assert dataset.quarantine is not None
    rows = [row for batch in dataset.quarantine.batches() for row in batch.to_pylist()]
    assert sorted(row["position"] for row in rows) == [2, 3, 32]


def test_the_rows_are_those_of_a_source_without_the_repeated(visits: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean.csv"
    clean.write_text(visits.read_text().replace("u3,30\n", ""))

    assert (
        ingest(visits, tmp_path / "b", checks=[Unique("user")], on_bad="drop").digest
        == ingest(clean, tmp_path / "c").digest
    )
