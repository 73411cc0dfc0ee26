import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.base import (
    ConflictError,
    StorageFullError,
    atomic_file,
    atomic_folder,
    create_exclusive,
    file_lock,
    write_atomic,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files end at 64 KiB, which the system reports much as it does a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_file_appears_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "new" / "f"

    with atomic_file(path) as sink:
        sink.write(b"whole")
        assert not path.exists()

    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["f"]


def test_text_mode_writes_utf8(tmp_path: Path):
    with atomic_file(tmp_path / "f", "w") as sink:
        sink.write("é")

    assert (tmp_path / "f").read_bytes() == "é".encode()


@pytest.mark.parametrize("raised", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, raised: type[BaseException]):
    write_atomic(tmp_path / "f", b"old")

    def write_and_fail() -> None:
        with atomic_file(tmp_path / "f") as sink:
            sink.write(b"new")
            raise raised

    with pytest.raises(raised):
        write_and_fail()

    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_full_disk_leaves_the_old_file_and_names_it(tmp_path: Path, small_disk: None):
    path = tmp_path / "f"
    write_atomic(path, b"old")

    with pytest.raises(StorageFullError, match=str(path)):
        write_atomic(path, bytes(200_000))

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_full_disk_leaves_no_exclusive_file(tmp_path: Path, small_disk: None):
    with pytest.raises(StorageFullError, match="free some space"):
        create_exclusive(tmp_path / "f", bytes(200_000))

    assert names(tmp_path) == []


def test_full_disk_leaves_no_folder(tmp_path: Path, small_disk: None):
    def fill() -> None:
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / "small").write_bytes(b"1")
            (folder / "large").write_bytes(bytes(200_000))

    with pytest.raises(StorageFullError):
        fill()

    assert names(tmp_path) == []


def test_other_system_errors_stay_what_they_are(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path, b"")


def test_kill_in_the_middle_leaves_the_old_file(tmp_path: Path):
    write_atomic(tmp_path / "f", b"old")
    code = """
        import os, signal, sys
        from shoal.base import atomic_file
        with atomic_file(sys.argv[1]) as sink:
            sink.write(b"new")
            sink.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """

    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "f")], check=False)

    assert died.returncode == -signal.SIGKILL
    assert (tmp_path / "f").read_bytes() == b"old"


def test_exclusive_name_is_given_once(tmp_path: Path):
    create_exclusive(tmp_path / "1.json", b"first")

    with pytest.raises(ConflictError, match=r"1\.json"):
        create_exclusive(tmp_path / "1.json", b"second")

    assert (tmp_path / "1.json").read_bytes() == b"first"
    assert names(tmp_path) == ["1.json"]


def test_exactly_one_rival_creates(tmp_path: Path):
    start = threading.Barrier(8)
    won: list[int] = []

    def create(rank: int) -> None:
        start.wait()
        try:
            create_exclusive(tmp_path / "f", str(rank).encode())
        except ConflictError:
            return
        won.append(rank)

    threads = [threading.Thread(target=create, args=(rank,)) for rank in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [str(rank) for rank in won] == [(tmp_path / "f").read_text()]


def test_folder_appears_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "package"

    with atomic_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "f").write_bytes(b"1")
        assert not path.exists()

    assert (path / "inner" / "f").read_bytes() == b"1"
    assert names(tmp_path) == ["package"]


def test_exception_leaves_no_folder(tmp_path: Path):
    def write_and_fail() -> None:
        with atomic_folder(tmp_path / "package") as folder:
            (folder / "f").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()

    assert names(tmp_path) == []


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_folder_that_exists_is_never_replaced(tmp_path: Path, when: str):
    path = tmp_path / "package"

    def rival() -> None:
        path.mkdir()
        (path / "theirs").touch()

    def write() -> None:
        with atomic_folder(path) as folder:
            (folder / "ours").touch()
            rival()

    if when == "before":
        rival()
    with pytest.raises(ConflictError, match="package"):
        write()

    assert names(path) == ["theirs"]
    assert names(tmp_path) == ["package"]


def test_held_lock_refuses_who_does_not_wait(tmp_path: Path):
    with (
        file_lock(tmp_path / "lock"),
        pytest.raises(ConflictError, match="lock"),
        file_lock(tmp_path / "lock", blocking=False),
    ):
        pass


def test_lock_is_free_again_after_an_exception(tmp_path: Path):
    with pytest.raises(RuntimeError), file_lock(tmp_path / "lock"):
        raise RuntimeError

    with file_lock(tmp_path / "lock", blocking=False):
        pass


def test_lock_ends_with_its_killed_holder(tmp_path: Path):
    code = """
        import sys
        from shoal.base import file_lock
        with file_lock(sys.argv[1]):
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConflictError), file_lock(tmp_path / "lock", blocking=False):
            pass

        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()

    with file_lock(tmp_path / "lock", blocking=False):
        pass
