from collections.abc import Callable
from pathlib import Path

import pytest

from shoal.base import SourceError
from shoal.data import Dataset
from shoal.data.sources.finding import find_inputs

Write = Callable[[str, bytes], Path]


def names(found: tuple[object, ...]) -> list[str]:
    return [Path(file.name).name for file in found]


def test_patterns_and_folders_come_in_the_order_of_names(write: Write, tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "deep/c.csv", "d.txt"):
        write(name, b"x")

    assert names(find_inputs(str(tmp_path / "*.csv"))) == ["a.csv", "b.csv"]
    assert names(find_inputs(str(tmp_path / "**/*.csv"))) == ["a.csv", "b.csv", "c.csv"]
    assert names(find_inputs(tmp_path, [".csv"])) == ["a.csv", "b.csv"]
    assert names(find_inputs([tmp_path / "b.csv", str(tmp_path / "a*")])) == ["b.csv", "a.csv"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(write: Write, tmp_path: Path) -> None:
    write("a[1].csv", b"x")
    write("a1.csv", b"x")

    assert names(find_inputs(tmp_path / "a[1].csv")) == ["a[1].csv"]


def test_hidden_files_of_a_folder_are_left_out(write: Write, tmp_path: Path) -> None:
    for name in ("a.csv", ".a.csv", "_SUCCESS"):
        write(name, b"x")

    assert names(find_inputs(tmp_path)) == ["a.csv"]


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("absent.csv", r"absent\.csv: there is no such file"),
        ("*.parquet", r"\*\.parquet: no file matches this pattern"),
        ("empty", "the folder holds no files"),
        ("mixed", r"files of several kinds \(2 \.csv, 1 \.jsonl\)"),
    ],
)
def test_says_what_is_not_there(write: Write, tmp_path: Path, place: str, found: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("mixed/a.csv", "mixed/b.csv", "mixed/c.jsonl"):
        write(name, b"x")

    with pytest.raises(SourceError, match=found):
        find_inputs(str(tmp_path / place))


def test_an_empty_list_is_told() -> None:
    with pytest.raises(SourceError, match="the list is empty"):
        find_inputs([])


def test_patterns_and_folders_in_a_store_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ["s3://bucket/day/b.csv", "s3://bucket/day/a.csv", "s3://bucket/day/_SUCCESS"]
    monkeypatch.setattr("shoal.data.remote.listing.list_url", lambda place: stored)

    assert names(find_inputs("s3://bucket/day/", [".csv"])) == ["a.csv", "b.csv"]
    assert len(find_inputs("s3://bucket/day/*")) == 3
    assert names(find_inputs("https://host/a.csv?key=1")) == ["a.csv?key=1"]


def test_a_url_of_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"ftp://host/a\.csv: URLs begin with one of .*s3"):
        find_inputs("ftp://host/a.csv")


def test_a_folder_that_is_a_dataset_is_told_as_one(dataset: Dataset) -> None:
    with pytest.raises(SourceError, match="it is a dataset itself") as caught:
        find_inputs(dataset.path)

    assert f"shoal.data.open({str(dataset.path)!r})" in caught.value.next_step
