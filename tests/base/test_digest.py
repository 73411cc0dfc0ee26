import os
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import (
    CorruptError,
    Digester,
    NotFoundError,
    UnsupportedError,
    check_file,
    digest_bytes,
    digest_chunks,
    digest_file,
    digest_json,
    digest_tree,
)


def make_tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_digest_is_blake3():
    assert digest_bytes(b"abc") == "b3:" + blake3(b"abc").hexdigest()


@given(st.lists(st.binary()))
def test_pieces_do_not_change_the_digest(pieces: list[bytes]):
    digester = Digester()

    for piece in pieces:
        digester.update(piece)

    assert digester.digest() == digest_bytes(b"".join(pieces))


def test_file_digest_equals_that_of_its_bytes(tmp_path: Path):
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "f").write_bytes(data)

    assert digest_file(tmp_path / "f") == digest_bytes(data)


def test_chunks_cover_the_file(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"aaaabbbbcc")

    assert digest_chunks(tmp_path / "f", 4) == [digest_bytes(b"aaaa"), digest_bytes(b"bbbb"), digest_bytes(b"cc")]


def test_empty_file_has_no_chunks(tmp_path: Path):
    (tmp_path / "f").touch()

    assert digest_chunks(tmp_path / "f") == []


def test_json_digest_ignores_key_order():
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})


def test_json_digest_sees_types():
    assert len({digest_json(value) for value in (1, 1.0, "1", True, None, [1])}) == 6


def test_tree_digest_ignores_where_and_when(tmp_path: Path):
    one = make_tree(tmp_path / "one", {"a": b"1", "b/c": b"2"})
    two = make_tree(tmp_path / "two", {"b/c": b"2", "a": b"1"})
    (two / "empty").mkdir()
    os.utime(two / "a", (0, 0))

    assert digest_tree(one) == digest_tree(two)


@pytest.mark.parametrize("files", [{"a": b"2", "b": b"1"}, {"a": b"1"}, {"a": b"1", "x/b": b"2"}, {"a": b"12"}])
def test_tree_digest_sees_names_and_contents(tmp_path: Path, files: dict[str, bytes]):
    base = make_tree(tmp_path / "base", {"a": b"1", "b": b"2"})
    other = make_tree(tmp_path / "other", files)

    assert digest_tree(base) != digest_tree(other)


def test_no_file_has_a_folders_digest(tmp_path: Path):
    folder = make_tree(tmp_path / "folder", {"a": b"1"})

    assert digest_tree(folder) != digest_json({"a": digest_bytes(b"1")})


def test_tree_with_a_special_file_is_refused(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UnsupportedError, match="pipe"):
        digest_tree(tmp_path)


def test_check_names_the_damaged_file(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(b"good")
    digest = digest_file(path)
    check_file(path, digest)

    path.write_bytes(b"gooe")

    with pytest.raises(CorruptError, match=str(path)):
        check_file(path, digest)


def test_missing_file_is_not_found(tmp_path: Path):
    with pytest.raises(NotFoundError, match="absent"):
        digest_file(tmp_path / "absent")
