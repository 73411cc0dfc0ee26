import sys

import pytest

from shoal.base import InputError, NotFoundError
from shoal.cli.target import load_target


@pytest.fixture(autouse=True)
def own_imports(monkeypatch, tmp_path):
    """What a test imports is gone after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def code(tmp_path):
    """A file that uses the one beside it, in a folder that is not the working folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "cli_target_beside.py").write_text("WIDTH = 32\n")
    file = folder / "cli_target_file.py"
    file.write_text(
        "from cli_target_beside import WIDTH\n\n\ndef width():\n    return WIDTH\n\n\n"
        "if __name__ == '__main__':\n    raise SystemExit('it ran')\n"
    )
    return file


def test_a_file_finds_the_modules_beside_it(code):
    assert load_target(f"{code}:width")() == 32


def test_a_files_module_has_its_stem_for_a_name(code):
    found = load_target(f"{code}:width")

    assert found.__module__ == "cli_target_file"
    assert sys.modules["cli_target_file"].width is found


def test_a_module_is_found_in_the_working_folder(code, monkeypatch):
    monkeypatch.chdir(code.parent)

    assert load_target("cli_target_file:width")() == 32


def test_an_installed_module_is_found():
    assert load_target("json:dumps") is sys.modules["json"].dumps


@pytest.mark.parametrize("address", ["width", "file.py", ":width", "file.py:"])
def test_an_address_without_both_parts_is_refused(address):
    with pytest.raises(InputError, match="as the address of code") as refused:
        load_target(address)

    assert "file.py:Name" in refused.value.next_step


def test_a_missing_name_tells_what_is_there(code):
    with pytest.raises(NotFoundError, match="it has WIDTH, width"):
        load_target(f"{code}:widht")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"cannot find the file .*nowhere\.py"):
        load_target(f"{tmp_path}/nowhere.py:width")


def test_a_missing_module_is_named():
    with pytest.raises(NotFoundError, match="cannot import 'cli_target_nowhere'"):
        load_target("cli_target_nowhere:width")


def test_what_a_module_itself_lacks_is_its_own_error(code):
    code.write_text("import cli_target_nowhere\n")

    with pytest.raises(ModuleNotFoundError, match="cli_target_nowhere"):
        load_target(f"{code}:width")


def test_a_file_that_raises_leaves_no_half_module(code):
    code.write_text("WIDTH = 32\nraise RuntimeError('broken')\n")

    with pytest.raises(RuntimeError, match="broken"):
        load_target(f"{code}:width")

    assert "cli_target_file" not in sys.modules
