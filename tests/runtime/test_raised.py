import functools
from pathlib import Path

import torch
from torch import nn

from shoal.base import file_lock
from shoal.runtime.raised import begins_in_user_code, describe, is_user_file


def raised(function):
    try:
        function()
    except Exception as error:
        return error


class Broken(nn.Module):
    def forward(self, x):
        raise ValueError("mine")


def test_frames_before_the_user_s_first_are_left_out():
    # A library calls the user's code, as shoal does.
    inner = functools.partial(nn.Sequential(Broken()), torch.zeros(1))
    error = raised(inner)
    error.__traceback__ = error.__traceback__.tb_next

    summary, text = describe(error, skip_file="elsewhere")

    assert summary == "ValueError: mine"
    assert text.count("  File ") == 1
    assert "in forward" in text
    assert begins_in_user_code(text)


def test_without_a_frame_of_the_user_s_all_stays(tmp_path):
    (tmp_path / "file").touch()
    error = raised(file_lock(tmp_path / "file" / "lock").__enter__)
    error.__traceback__ = error.__traceback__.tb_next

    _, text = describe(error, skip_file="elsewhere")

    assert "files.py" in text
    assert not begins_in_user_code(text)


def test_causes_begin_in_the_user_s_code_too():
    def outer():
        try:
            Broken()(torch.zeros(1))
        except ValueError as error:
            raise KeyError("what") from error

    _, text = describe(raised(outer), skip_file="elsewhere")

    assert text.index("ValueError: mine") < text.index("KeyError: 'what'")
    assert begins_in_user_code(text)


def test_what_is_installed_is_not_the_user_s():
    assert is_user_file(__file__)
    assert is_user_file("<stdin>")
    assert not any(map(is_user_file, (torch.__file__, functools.__file__, file_lock.__code__.co_filename)))
    assert not is_user_file("<frozen importlib._bootstrap>")
    assert not is_user_file(str(Path("env") / "site-packages" / "x.py"))
