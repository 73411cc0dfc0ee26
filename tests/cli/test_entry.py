import json
import subprocess
import sys

import pytest

from shoal.cli import entry


def test_help_lists_every_noun(shoal):
    done = shoal("--help")

    assert done.code == 0
    assert all(noun in done.out for noun in entry.NOUNS)


@pytest.mark.parametrize("noun", sorted(entry.NOUNS))
def test_every_noun_has_help_of_its_own(shoal, noun):
    done = shoal(noun, "--help")

    assert done.code == 0
    assert "Usage:" in done.out


def test_version_is_printed(shoal):
    assert shoal("--version").out.startswith("shoal 0.")


def test_an_unknown_noun_is_wrong_usage(shoal):
    done = shoal("dta", "ingest")

    assert done.code == 2
    assert "dta" in done.err


def test_an_error_names_the_next_step_and_exits_with_1(shoal):
    done = shoal("run", "show", "r-9999")

    assert done.code == 1
    assert done.err.startswith("error  ")
    assert "\nnext   " in done.err


def test_a_program_that_asked_for_json_gets_the_error_as_json(shoal):
    done = shoal("train", "run", "nowhere.py:Wrong", "--data", "nothing", "--json")

    assert done.code == 1
    found = json.loads(done.out)
    assert set(found) == {"error", "next"}
    assert "nowhere.py" in found["error"]
    assert done.err == f"error  {found['error']}\nnext   {found['next']}\n"


def test_an_interrupt_exits_with_130(shoal, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry.root, "main", interrupt)

    assert shoal("config", "show").code == 130


@pytest.mark.parametrize(("name", "extra"), [("torch", "train"), ("onnxruntime.capi", "serve"), ("aiohttp", "demo")])
def test_a_package_that_an_extra_brings_is_named_with_it(shoal, monkeypatch, name, extra):
    monkeypatch.setattr(entry.root, "main", _raise(ModuleNotFoundError(f"No module named {name!r}", name=name)))

    done = shoal("train", "run")

    assert done.code == 1
    assert done.err == f"error  this needs {name}, which is not installed\nnext   pip install 'shoal[{extra}]'\n"


def test_a_module_that_users_code_lacks_is_its_own_error(shoal, monkeypatch):
    monkeypatch.setattr(entry.root, "main", _raise(ModuleNotFoundError("No module named 'theirs'", name="theirs")))

    with pytest.raises(ModuleNotFoundError, match="theirs"):
        entry.main(["config", "show"])


def test_help_imports_no_noun():
    loaded = _loaded_by([["--help"]])

    assert not loaded & {"msgspec", "numpy", "rich", "pyarrow"}


def test_help_of_a_noun_imports_no_weight():
    loaded = _loaded_by([[noun, "--help"] for noun in entry.NOUNS])

    assert not loaded & {"torch", "numpy", "pyarrow", "sqlalchemy", "onnx", "onnxruntime", "matplotlib", "aiohttp"}


def _raise(error):
    def main(**_arguments):
        raise error

    return main


def _loaded_by(commands):
    code = (
        "import sys\nfrom shoal.cli import main\n"
        f"for command in {commands!r}:\n    try: main(command)\n    except SystemExit as ended: assert not ended.code\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())
