"""Supervisors as scripts of their own, so that tests can kill them and look at what is left."""

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from textwrap import dedent

import pytest

from shoal.runtime import Code, LocalRuntime, Report, Resources
from shoal.runtime.forking import can_fork
from shoal.testing import members

FORKS = pytest.mark.skipif(not can_fork(), reason="forked members need Linux")


class ForkingRuntime(LocalRuntime):
    """All members are forked from a server."""

    def gang(self, roles, **options):
        return super().gang({role: (_forked(code), *rest) for role, (code, *rest) in roles.items()}, **options)

    def service(self, code, *arguments, **options):
        return super().service(_forked(code), *arguments, **options)


def _forked(code):
    return replace(code, preload=("shoal.runtime.context",))


@pytest.fixture(params=[LocalRuntime, pytest.param(ForkingRuntime, marks=FORKS)], ids=["fresh", "forked"])
def runtime(request):
    return request.param()


@pytest.fixture
def forking_runtime():
    return ForkingRuntime()


@pytest.fixture
def start_python(tmp_path):
    """Start `python *arguments`; a string that holds a newline becomes a script file first.

    Members inherit their supervisor's stdout: `communicate` returns when the supervisor *and* its members are gone.
    """
    numbers = count()
    with ExitStack() as stack:

        def start(*arguments):
            if "\n" in arguments[0]:
                script = tmp_path / f"script-{next(numbers)}.py"
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


# In the standard library, and loaded by nothing that a member needs.
RARE = "sched"


@pytest.fixture
def facts():
    """Start members whose code preloads modules; what they say of their processes."""

    def ask(*, num=1, preload=(RARE,), environment=None):
        code = Code.of(members.describe_process, {"module": RARE}, preload=preload)
        with LocalRuntime().gang({"worker": (code, num, Resources())}, environment=environment) as gang:
            found = {event.member.rank: event.message for event in gang.events() if isinstance(event, Report)}
        return [found[rank] for rank in range(num)]

    return ask
