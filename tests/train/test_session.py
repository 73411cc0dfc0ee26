import threading
import time
from types import SimpleNamespace

import pytest

from shoal.base import ConflictError, file_lock
from shoal.train.session import _alone


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(id="r-0001", folder=tmp_path)


def test_a_run_that_somebody_works_on_is_told(run):
    taken, refused = file_lock(run.folder / "supervisor.lock"), pytest.raises(ConflictError, match="r-0001 is running")

    with taken, refused, _alone(run):
        pass


def test_whoever_only_looks_does_not_count(run):
    looking = threading.Event()

    def look():
        with file_lock(run.folder / "supervisor.lock"):
            looking.set()
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()

    with _alone(run):
        thread.join()
