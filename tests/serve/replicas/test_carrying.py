import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shoal.base import CorruptError, InputError, NotFoundError
from shoal.serve.replicas.carrying import carry, is_carried, receive


class Doubling:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, batch):
        return batch["x"] * self.factor


def test_an_object_arrives_with_its_state():
    path = carry(Doubling(3))

    assert is_carried(path)
    assert receive(path).predict({"x": np.array([2])}).tolist() == [6]
    assert Path(path).parent.stat().st_mode & 0o077 == 0


def test_the_same_content_is_the_same_file():
    assert carry(Doubling(4)) == carry(Doubling(4)) != carry(Doubling(5))


def test_what_cannot_leave_this_process_is_told():
    with pytest.raises(InputError, match="another process"):
        carry(Doubling(sys.stderr))


def test_nothing_is_loaded_from_a_file_that_was_changed():
    path = carry(Doubling(6))
    with Path(path).open("ab") as sink:
        sink.write(b"more")

    with pytest.raises(CorruptError, match="changed"):
        receive(path)


def test_the_files_go_with_the_process_that_wrote_them():
    code = "from shoal.serve.replicas.carrying import carry; print(carry({'a': 1}))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    with pytest.raises(NotFoundError, match="start the server again"):
        receive(done.stdout.strip())
