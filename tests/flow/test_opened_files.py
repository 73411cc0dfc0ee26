"""Files that a step reads are noticed; what it wrote, declared, or did not choose is not reported."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from shoal.flow.opened_files import watched


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("x")
    return path


@pytest.mark.parametrize(
    "read",
    [
        lambda path: path.read_text(),
        lambda path: open(str(path)).close(),  # noqa: PTH123 - the spelling is what is tested
        lambda path: open(os.fsencode(path), "rb").close(),  # noqa: PTH123 - as above
        lambda path: os.close(os.open(path, os.O_RDONLY)),
        lambda path: np.fromfile(path, np.uint8),
        lambda path: path.open("r+").close(),
    ],
)
def test_reading_is_noticed(data, read):
    with watched() as opened:
        read(data)

    assert opened.undeclared([]) == (str(data),)


def test_a_relative_path_is_told_in_full(data, monkeypatch):
    monkeypatch.chdir(data.parent)
    with watched() as opened:
        Path("data.txt").read_text()

    assert opened.undeclared([]) == (str(data),)


def test_what_the_step_wrote_itself_is_its_own(tmp_path):
    with watched() as opened:
        (tmp_path / "made").write_text("x")
        (tmp_path / "made").read_text()

    assert opened.undeclared([]) == ()


def test_a_declared_file_or_folder_is_allowed(data):
    with watched() as opened:
        data.read_text()

    assert opened.undeclared([str(data)]) == ()
    assert opened.undeclared([str(data.parent)]) == ()
    assert opened.undeclared([str(data)[:-2]]) == (str(data),)


def test_code_and_the_machines_own_files_are_allowed():
    with watched() as opened:
        for path in (os.__file__, np.__file__, "/etc/hosts"):
            Path(path).read_bytes()

    assert opened.undeclared([]) == ()


def test_other_threads_are_not_watched(data):
    with watched() as opened:
        thread = threading.Thread(target=data.read_text)
        thread.start()
        thread.join()

    assert opened.undeclared([]) == ()


def test_after_the_block_nothing_is_noticed(data):
    with watched() as opened:
        pass
    data.read_text()

    assert opened.undeclared([]) == ()
