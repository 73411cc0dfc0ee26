import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from shoal.base import InputError, NotFoundError, SharedBlock, StorageFullError, shared_memory

needs_reservation = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_both_sides_see_the_same_memory():
    block = SharedBlock.create(4096)
    twin = SharedBlock.attach(block.name)

    block.view(np.float32, (2, 3), 64)[:] = 7

    assert twin.size_bytes == 4096
    assert (twin.view(np.float32, (2, 3), 64) == 7).all()
    block.unlink()


def test_new_block_is_zeros():
    block = SharedBlock.create(100)

    assert not block.view(np.uint8, (100,)).any()
    block.unlink()


def test_another_process_writes_into_it():
    block = SharedBlock.create(8)
    code = """
        import sys, numpy as np
        from shoal.base import SharedBlock
        SharedBlock.attach(sys.argv[1]).view(np.int64, (1,))[0] = 42
    """

    done = run(code, block.name)

    assert (done.returncode, done.stderr) == (0, "")
    assert block.view(np.int64, (1,))[0] == 42
    block.unlink()


@pytest.mark.parametrize(("shape", "offset"), [((9,), 0), ((8,), 1), ((1,), -1)])
def test_view_beyond_the_block_is_refused(shape: tuple[int, ...], offset: int):
    block = SharedBlock.create(8)

    with pytest.raises(InputError, match="the block has 8"):
        block.view(np.uint8, shape, offset)
    block.unlink()


def test_unlinked_block_is_gone_for_newcomers_only():
    block = SharedBlock.create(8)
    twin = SharedBlock.attach(block.name)
    block.unlink()
    block.unlink()

    with pytest.raises(NotFoundError, match=block.name):
        SharedBlock.attach(block.name)
    assert twin.view(np.uint8, (8,)).sum() == 0


def test_close_waits_for_the_last_array():
    block = SharedBlock.create(8)
    array = block.view(np.uint8, (8,))

    block.close()
    array[0] = 1

    assert array[0] == 1
    block.unlink()


def test_exit_of_the_creator_removes_it_without_noise():
    done = run("from shoal.base import SharedBlock; print(SharedBlock.create(8).name)")

    assert done.stderr == ""
    assert not Path(done.stdout.strip()).exists()


def test_exit_of_who_attached_leaves_it():
    block = SharedBlock.create(8)

    run("import sys; from shoal.base import SharedBlock; SharedBlock.attach(sys.argv[1])", block.name)

    assert Path(block.name).exists()
    block.unlink()


def test_forked_child_does_not_take_it_away():
    code = """
        import os, sys
        from shoal.base import SharedBlock
        block = SharedBlock.create(8)
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        SharedBlock.attach(block.name)
    """

    assert run(code).returncode == 0


def test_supervisor_removes_what_a_killed_creator_left():
    code = """
        import os
        from shoal.base import SharedBlock
        print(SharedBlock.create(8).name, flush=True)
        os.kill(os.getpid(), 9)
    """
    died = run(code)
    name = died.stdout.strip()
    assert died.returncode == -signal.SIGKILL
    assert Path(name).exists()

    SharedBlock.unlink_name(name)

    assert not Path(name).exists()


@needs_reservation
def test_small_memory_file_system_falls_back_to_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    monkeypatch.setattr(shared_memory, "_folders", lambda: [small, large])
    reserve = os.posix_fallocate

    def reserve_in_large(descriptor: int, offset: int, size: int) -> None:
        if not list(large.iterdir()):
            raise OSError(errno.ENOSPC, "full")
        reserve(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", reserve_in_large)

    block = SharedBlock.create(8)

    assert Path(block.name).parent == large
    assert list(small.iterdir()) == []
    block.unlink()


@needs_reservation
def test_no_room_anywhere_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(shared_memory, "_folders", lambda: [tmp_path])
    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(StorageFullError, match=str(tmp_path)):
        SharedBlock.create(8)

    assert list(tmp_path.iterdir()) == []


def test_block_of_nothing_is_refused():
    with pytest.raises(InputError, match="0 bytes"):
        SharedBlock.create(0)


def test_all_blocks_of_a_killed_process_can_be_removed_and_no_others():
    mine = SharedBlock.create(8)
    killed = run(
        """
        import os, signal
        from shoal.base import SharedBlock
        print(os.getpid(), *(SharedBlock.create(8).name for _ in range(2)), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    pid, *names = killed.stdout.split()

    SharedBlock.unlink_all_of(int(pid))

    assert [Path(name).exists() for name in names] == [False, False]
    assert Path(mine.name).exists()
    mine.unlink()


def test_a_block_with_an_agreed_name_is_found_by_it_once_it_is_ready():
    name = f"agreed-{os.getpid()}-1"
    assert SharedBlock.find(name) is None

    block = SharedBlock.create(8, name=name)
    twin = SharedBlock.find(name)

    block.view(np.uint8, (8,))[:] = 5
    assert twin is not None
    assert twin.view(np.uint8, (8,)).tolist() == [5] * 8
    block.unlink()
    assert SharedBlock.find(name) is None


def test_blocks_are_removed_by_the_beginning_of_their_names():
    name = f"agreed-{os.getpid()}-*"
    blocks = [SharedBlock.create(8, name=f"{name}{end}") for end in "ab"]
    other = SharedBlock.create(8, name=f"agreed-{os.getpid()}-other")

    SharedBlock.unlink_all_named(name)

    assert [Path(block.name).exists() for block in [*blocks, other]] == [False, False, True]
    other.unlink()
