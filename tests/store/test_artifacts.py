import resource
import signal

import pytest

from shoal.base import StorageFullError, digest_bytes


@pytest.fixture
def fill_disk():
    """Call it, and no file of this process grows beyond 32 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def _files(store):
    return sorted(path for path in (store.home / "artifacts").rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["bytes", "file", "folder"])
def test_full_disk_leaves_nothing(store, tmp_path, fill_disk, kind):
    big = b"x" * 40_000
    before = store.artifacts.put_bytes(b"small")
    (tmp_path / "one").write_bytes(big)
    fill_disk()

    put, content = {
        "bytes": (store.artifacts.put_bytes, big),
        "file": (store.artifacts.put_file, tmp_path / "one"),
        "folder": (store.artifacts.put_folder, tmp_path),
    }[kind]
    with pytest.raises(StorageFullError, match="artifacts"):
        put(content)

    assert _files(store) == [store.artifacts.path(before.digest)]


def test_row_that_a_kill_prevented_comes_with_the_next_put(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(type(store.artifacts), "_enter", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.artifacts.put_bytes(b"content")
    contained = store.artifacts.contains(digest_bytes(b"content"))

    store.artifacts.put_bytes(b"content")

    assert contained
    with store._parts.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT digest, size_bytes FROM artifacts").all()
    assert rows == [(digest_bytes(b"content"), 7)]


def test_known_content_costs_no_turn_among_the_writers(store, monkeypatch):
    artifact = store.artifacts.put_bytes(b"content")
    monkeypatch.setattr(store._parts.database, "write", lambda: 1 / 0)

    assert store.artifacts.put_bytes(b"content") == artifact


def test_nested_folder_counts_all_its_files(store, tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"22")

    assert store.artifacts.put_folder(tmp_path).size_bytes == 3
