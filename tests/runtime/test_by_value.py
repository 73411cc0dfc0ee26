import importlib.util
import pickle
import subprocess
import sys
import threading

import cloudpickle
import numpy as np
import pytest

from shoal.base import InputError
from shoal.runtime.by_value import dumps, is_importable, loads
from shoal.testing import members


@pytest.fixture
def stray_module(tmp_path):
    """A module that this process loaded by path: no import statement finds it."""
    file = tmp_path / "stray.py"
    file.write_text("class Thing:\n    size = 3\n\ndef make():\n    return Thing()\n")
    spec = importlib.util.spec_from_file_location("stray_module_of_a_test", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def in_a_fresh_interpreter(payload, expression):
    code = f"import pickle, sys; value = pickle.loads(sys.stdin.buffer.read()); print({expression})"
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_values_come_back():
    value = {"array": np.arange(3), "function": members.divide, "text": "ü"}

    back = loads(dumps(value))

    assert back["function"] is members.divide
    assert back["array"].tolist() == [0, 1, 2]


def test_code_of_a_module_that_cannot_be_imported_is_copied(stray_module):
    payload = dumps((stray_module.make, stray_module.Thing()))

    assert in_a_fresh_interpreter(payload, "value[0]().size + value[1].size") == "6"


def test_no_module_stays_marked_for_copying(stray_module):
    dumps(stray_module.make)

    assert stray_module.__name__ not in cloudpickle.list_registry_pickle_by_value()
    with pytest.raises(InputError):
        dumps((stray_module.make, threading.Lock()))
    assert stray_module.__name__ not in cloudpickle.list_registry_pickle_by_value()


def test_a_class_that_travelled_by_value_comes_home_as_itself():
    class Local:
        pass

    assert type(loads(dumps(Local()))) is Local


@pytest.mark.parametrize("name", ["sys", "json", "numpy", "numpy.linalg", "shoal.testing.members"])
def test_modules_that_an_import_finds_are_named(name):
    importlib.import_module(name)

    assert is_importable(name)


@pytest.mark.parametrize("name", ["__main__", "never.loaded"])
def test_modules_that_no_import_finds_are_not(name):
    assert not is_importable(name)


def test_a_stray_module_is_not_importable_under_a_taken_name_either(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("")
    spec = importlib.util.spec_from_file_location("json", tmp_path / "json.py")
    monkeypatch.setitem(sys.modules, "json", importlib.util.module_from_spec(spec))

    # Past the cache, which remembers the real one.
    assert not is_importable.__wrapped__("json")


@pytest.mark.parametrize("value", [threading.Lock(), (number for number in ()), sys._getframe()])
def test_what_belongs_to_this_process_is_refused(value):
    with pytest.raises(InputError, match="another process"):
        dumps(value)


def test_bytes_that_are_no_pickle_are_an_error():
    with pytest.raises(pickle.UnpicklingError):
        loads(b"\x00")
