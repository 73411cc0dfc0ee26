"""A task reaches its worker from wherever its author wrote it."""

import functools
import importlib.util
import sys
from dataclasses import dataclass

import pytest

from shoal.base import InputError
from shoal.runtime import Code, Report, Resources
from shoal.testing import members

TASK = """
import sys
from dataclasses import dataclass

runs = "the script runs again in the child"
SCALE = 3

@dataclass(frozen=True)
class Width:
    value: int

def helper(width):
    return width.value * SCALE

def work(context, value):
    context.report({"result": helper(Width(value)), "main": "runs" in vars(sys.modules["__main__"])})
"""
SUPERVISE = """
from shoal.runtime import Code, Report, Resources, open_runtime

with open_runtime("local").gang({"worker": (Code.of(work, {"value": 14}), 1, Resources())}) as gang:
    for event in gang.events():
        print(event.message if isinstance(event, Report) else getattr(event, "failure", None))
with open_runtime("local").pool(1) as pool:
    print(pool.submit(helper, Width(5)).result(), pool.submit(Width, 6).result() == Width(6))
"""
EXPECTED = sorted(["{'result': 42, 'main': False}"] + ["None"] * 2 + ["15 True"])


def test_a_task_in_a_script_without_a_main_guard(run_python):
    assert sorted(run_python(TASK + SUPERVISE).splitlines()) == EXPECTED


def test_a_task_on_the_command_line(run_python):
    assert sorted(run_python("-c", TASK + SUPERVISE).splitlines()) == EXPECTED


def test_a_task_in_a_notebook(run_python):
    # A kernel compiles each cell under a name of its own and runs it in the namespace of __main__.
    cells = [TASK, SUPERVISE]
    kernel = (
        f"for number, cell in enumerate({cells!r}):\n    exec(compile(cell, f'<cell {{number}}>', 'exec'), globals())\n"
    )

    assert sorted(run_python(kernel).splitlines()) == EXPECTED


def test_a_task_in_a_namespace_without_a_name(run_python):
    assert sorted(run_python(f"program = {TASK + SUPERVISE!r}\nexec(program, {{}})\n").splitlines()) == EXPECTED


def test_a_task_in_a_module_beside_the_script(run_python, tmp_path):
    (tmp_path / "tasks.py").write_text(TASK)

    printed = run_python("import os\nos.chdir('/')\nfrom tasks import *\nassert __name__ == '__main__'\n" + SUPERVISE)

    assert sorted(printed.splitlines()) == EXPECTED


def test_a_task_in_a_module_that_was_found_by_a_changed_path(run_python, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "tasks.py").write_text(TASK)

    printed = run_python("import sys\nsys.path.insert(0, 'elsewhere')\nfrom tasks import *\n" + SUPERVISE)

    assert sorted(printed.splitlines()) == EXPECTED


def test_a_task_in_a_module_that_no_name_leads_to(runtime, tmp_path):
    (tmp_path / "loaded_by_path.py").write_text(TASK)
    spec = importlib.util.spec_from_file_location("loaded_by_path", tmp_path / "loaded_by_path.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["loaded_by_path"] = module
    try:
        spec.loader.exec_module(module)
        code = Code.of(module.work, {"value": 2})
    finally:
        del sys.modules["loaded_by_path"]

    with runtime.gang({"worker": (code, 1, Resources())}) as gang:
        said = [event.message for event in gang.events() if isinstance(event, Report)]

    assert code.module is None
    assert code.path == str(tmp_path / "loaded_by_path.py")
    assert [message["result"] for message in said] == [6]


def test_an_importable_function_travels_by_name_alone():
    code = Code.of(members.echo)

    assert (code.module, code.qualname, code.payload) == ("shoal.testing.members", "echo", None)
    assert code.path == members.__file__
    assert Code(module=code.module, path=None, qualname="echo", config={}).resolve() is members.echo


def test_a_wrapped_function_is_not_confused_with_the_name_it_bears():
    @functools.wraps(members.echo)
    def wrapped(context):
        pass

    code = Code.of(wrapped)

    assert code.module is None
    assert code.payload is not None


@dataclass
class Adder:
    offset: int

    def __call__(self, value):
        return self.offset + value


@pytest.mark.parametrize(
    "target", [Adder(3), functools.partial(lambda a, b: a + b, 3), Adder(3).__call__, lambda value: value + 3]
)
def test_anything_that_can_be_called_can_travel(target):
    code = Code.of(target)

    travelled = Code(module=code.module, path=None, qualname=code.qualname, config={}, payload=code.payload)

    assert travelled.resolve()(4) == 7


def test_what_cannot_be_called_is_refused():
    with pytest.raises(InputError, match="not a callable"):
        Code.of(3)


def test_a_closure_that_cannot_leave_the_process_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file:

        def uses_file(context):
            file.write("x")

        with pytest.raises(InputError, match="cannot take"):
            Code.of(uses_file)


def test_a_configuration_that_is_not_json_like_is_refused_before_any_process_starts():
    with pytest.raises(InputError, match=r"functools\.partial"):
        Code.of(members.echo, {"adder": object()})


def test_the_digest_is_that_of_the_reached_code():
    class Callable:
        def __call__(self, context):
            return 1

    assert Code.of(members.echo).digest == Code.of(members.echo).digest
    assert Code.of(members.echo).digest != Code.of(members.fail).digest
    assert Code.of(Callable()).digest == Code.of(Callable).digest


def test_a_failure_in_a_script_points_at_its_line(run_python):
    printed = run_python(
        """
        from shoal.runtime import Code, Exited, Resources, open_runtime

        def work(context):
            raise ValueError("here")

        with open_runtime("local").gang({"worker": (Code.of(work), 1, Resources())}) as gang:
            print(next(event for event in gang.events() if isinstance(event, Exited)).failure.traceback_text)
        """
    )

    assert 'raise ValueError("here")' in printed
    assert "child.py" not in printed
