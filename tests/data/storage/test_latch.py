import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shoal.data.storage.latch import latch


def test_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(20):
            with latch(tmp_path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(most) == {1}


def test_leaves_nothing_behind(tmp_path: Path) -> None:
    with latch(tmp_path / "new"):
        pass

    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.slow  # starts a process
def test_opens_when_its_holder_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, signal; from pathlib import Path; from shoal.data.storage.latch import latch\n"
        "with latch(Path(sys.argv[1])):\n    print('in', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        os.kill(holder.pid, signal.SIGKILL)

    with latch(tmp_path):
        pass
