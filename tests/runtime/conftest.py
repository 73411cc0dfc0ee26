"""Supervisors as scripts of their own, so that tests can kill them and look at what is left."""

import subprocess
import sys
from contextlib import ExitStack
from textwrap import dedent

import pytest

from shoal.runtime import LocalRuntime


@pytest.fixture
def runtime():
    return LocalRuntime()


@pytest.fixture
def start_python(tmp_path):
    """Start `python *arguments`; a string that holds a newline becomes a script file first.

    Members inherit their supervisor's stdout: `communicate` returns when the supervisor *and* its members are gone.
    """
    with ExitStack() as stack:

        def start(*arguments):
            script = tmp_path / "script.py"
            if "\n" in arguments[0]:
                script.write_text(dedent(arguments[0]))
                arguments = (str(script), *arguments[1:])
            process = subprocess.Popen(
                [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def run_python(start_python):
    """Run `python *arguments` and return what it printed; it must end well."""

    def run(*arguments):
        process = start_python(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert err == ""
        return out

    return run
