from pathlib import Path

import numpy as np
import pytest

from shoal.base import ConflictError, CorruptError
from shoal.data import Dataset, ingest
from shoal.data.versions.lineage import check_belongs, check_same_history, links_of, read_link
from shoal.data.versions.manifest import manifest_path


@pytest.fixture
def other(tmp_path: Path) -> Dataset:
    """Two versions of other rows."""
    return ingest({"x": np.arange(5)}, tmp_path / "other").append({"x": np.arange(7)})


def test_each_version_names_the_content_of_the_one_before(other: Dataset) -> None:
    links = links_of(other.path)

    assert links[2].parent == links[1].digest
    assert links[2].follows(links[1])
    assert links[1].agrees(links[2])


def test_damaged_versions_have_no_link(other: Dataset) -> None:
    manifest_path(other.path, 1).write_bytes(b"{}")

    assert list(links_of(other.path)) == [2]
    with pytest.raises(CorruptError, match="the copy"):
        read_link(b"{}", "the copy")


def test_a_history_agrees_with_a_part_of_itself_alone(dataset: Dataset, other: Dataset) -> None:
    links = links_of(other.path)

    check_same_history(other.path, "there", {1: links[1]}, is_known=False)
    with pytest.raises(ConflictError, match="version 1 is another one there"):
        check_same_history(dataset.path, "there", links, is_known=True)


def test_without_a_common_version_only_a_known_copy_is_trusted(other: Dataset) -> None:
    check_same_history(other.path, "there", {}, is_known=True)
    with pytest.raises(ConflictError, match="no version is in both"):
        check_same_history(other.path, "there", {}, is_known=False)


def test_a_version_without_neighbours_must_name_a_file_that_is_here(dataset: Dataset, other: Dataset) -> None:
    links, own = links_of(other.path), links_of(dataset.path)[1]
    manifest_path(dataset.path, 1).unlink()

    check_belongs(dataset.path, own, 1, "a copy")
    with pytest.raises(ConflictError, match="version 1 there is one of another dataset"):
        check_belongs(dataset.path, links[1], 1, "a copy")
