from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import CorruptError
from shoal.data.sampling import derived
from shoal.data.sampling.derived import ArrayWriter, derived_arrays, read_arrays


def write_both(writer: ArrayWriter) -> None:
    writer.add("odd", np.arange(5, dtype=np.uint8))
    writer.add("sums", np.arange(1_000, dtype="<f8"))
    writer.add("sums", np.arange(10, dtype="<f8"))
    writer.add("empty", np.empty(0, "<i8"))


def test_arrays_come_back_mapped_and_read_only(tmp_path: Path) -> None:
    arrays = derived_arrays(tmp_path, "made", write_both)

    assert arrays["odd"].tolist() == [0, 1, 2, 3, 4]
    assert arrays["sums"][-3:].tolist() == [7.0, 8.0, 9.0]
    assert (len(arrays["sums"]), len(arrays["empty"])) == (1_010, 0)
    assert not arrays["sums"].flags.writeable


@given(place=st.integers(0, 8_000), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=40)
def test_any_flipped_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: int, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    path = folder / "subsets" / "made"
    derived_arrays(folder, "made", write_both)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << bit
    path.unlink()
    path.write_bytes(data)

    with pytest.raises(CorruptError, match="was cut or changed"):
        read_arrays(path)
    assert derived_arrays(folder, "made", write_both)["sums"][999] == 999


def test_a_cut_file_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "subsets" / "made"
    derived_arrays(tmp_path, "made", write_both)
    path.write_bytes(path.read_bytes()[:50])

    assert len(derived_arrays(tmp_path, "made", write_both)["sums"]) == 1_010


def test_a_folder_that_cannot_be_written_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, project = tmp_path / "dataset", tmp_path / "project"
    dataset.mkdir()
    project.mkdir()
    monkeypatch.chdir(project)
    # A file in the folder's place refuses what a read-only disk refuses, also to root.
    (dataset / "subsets").write_text("in the way")

    derived_arrays(dataset, "made", write_both)

    kept = project / ".shoal" / "cache" / "subsets" / "made"
    assert kept.is_file()
    kept_at = kept.stat().st_mtime_ns
    derived_arrays(dataset, "made", write_both)
    assert kept.stat().st_mtime_ns == kept_at


def test_several_that_build_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: derived_arrays(tmp_path, "made", write_both), range(8)))

    assert [len(arrays["sums"]) for arrays in made] == [1_010] * 8
    assert [path.name for path in (tmp_path / "subsets").iterdir()] == ["made"]


def test_a_failure_while_building_is_not_hidden(tmp_path: Path) -> None:
    def fail(writer: ArrayWriter) -> None:
        raise PermissionError(13, "a source that may not be read")

    with pytest.raises(PermissionError, match="a source that"):
        derived_arrays(tmp_path, "made", fail)
    assert list((tmp_path / "subsets").iterdir()) == []


def test_the_digest_is_checked_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    derived_arrays(tmp_path, "made", write_both)
    counted = []
    monkeypatch.setattr(derived, "digest_bytes", lambda data: counted.append(len(data)))

    read_arrays(tmp_path / "subsets" / "made")

    assert counted == []


def test_what_a_process_remembers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "_MAX_CHECKED", 3)
    monkeypatch.setattr(derived, "_checked", OrderedDict())

    for name in "abcabcde":
        derived_arrays(tmp_path, name, write_both)

    assert [Path(key[0]).name for key in derived._checked] == ["c", "d", "e"]
