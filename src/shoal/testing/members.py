"""What members run in the runtime's contract; apart from it, as a member should not have to import pytest."""

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from shoal.runtime import Context

LARGE_BYTES = 30_000_000


def introduce(context: Context, **config: Any) -> None:  # noqa: ANN401  # whatever the test configures comes back
    """Report place and configuration."""
    context.report({"role": context.role, "rank": context.rank, "size": context.world_size, "config": config})


def describe_process(context: Context, module: str) -> None:
    """Report where and as what this process runs, whether a module was loaded before, and two random numbers."""
    np = sys.modules.get("numpy")
    # As a process sees them that this one starts.
    variables = subprocess.run(["env", "-0"], capture_output=True, text=True, check=True).stdout.split("\0")
    context.report(
        {
            "parent": os.getppid(),
            "is_loaded": module in sys.modules,
            "folder": str(Path.cwd()),
            "variables": dict(line.split("=", 1) for line in variables if line),
            "words": sys.argv[1:3],
            "limits": list(resource.getrlimit(resource.RLIMIT_NOFILE)),
            "random": [random.random(), None if np is None else np.random.random()],  # no secret
        }
    )


def echo(context: Context) -> None:
    """Send every message back, until asked to stop."""
    while (message := context.receive()) is not None:
        context.report(message)


def introduce_and_echo(context: Context) -> None:
    """Say who this is, then send every message back."""
    introduce(context)
    echo(context)


def echo_in_loop(context: Context) -> None:
    """The same inside an asyncio event loop, which asks for a message only when one is there."""

    async def run() -> None:
        done = asyncio.Event()

        def take() -> None:
            while (message := context.receive_nowait()) is not None:
                context.report(message)
            if context.stopping.is_set():
                done.set()

        asyncio.get_running_loop().add_reader(context.fileno(), take)
        context.report("ready")
        await done.wait()

    asyncio.run(run())


def fail(context: Context, after: list[Any]) -> None:
    """Report what is in `after`, then raise."""
    for message in after:
        context.report(message)
    raise LookupError(f"nothing for rank {context.rank}")


def fail_with_a_stray_thread(context: Context) -> None:
    """Raise while a thread goes on that nothing ends."""
    threading.Thread(target=threading.Event().wait).start()
    fail(context, [])


def leave(context: Context, code: int) -> None:  # noqa: ARG001  # every entry takes it
    """Exit the hard way."""
    sys.stderr.write(f"leaving with {code}\n")
    sys.stderr.flush()
    os._exit(code)


def ignore_stop(context: Context) -> None:
    """Never look at `stopping`."""
    context.report("ready")
    while True:
        time.sleep(60)


def wait_for_stop(context: Context, then: str | None = None) -> None:
    """Wait until asked to stop, say so, and raise `then` if given."""
    context.report("ready")
    context.stopping.wait()
    context.report("stopping")
    if then:
        raise RuntimeError(then)


def flood(context: Context, num_messages: int, num_bytes: int) -> None:
    """Report more than any buffer holds, then die."""
    for index in range(num_messages):
        context.report(index.to_bytes(8, "little") * (num_bytes // 8))
    os.kill(os.getpid(), signal.SIGKILL)


def report_home(context: Context) -> None:
    """Report what the variable HOME says."""
    context.report(str(Path.home()))


def report_unsendable(context: Context) -> None:
    """Try to report what cannot travel, and report the words of the error."""
    try:
        context.report({"lock": threading.Lock()})
    except ValueError as error:
        context.report(str(error))


def report_large(context: Context) -> None:
    """Report many bytes, then the length of what comes back."""
    context.report(b"\1" * LARGE_BYTES)
    context.report(len(context.receive()))


def divide(a: int, b: int) -> float:
    """A task that can fail."""
    return a / b


def own_pid() -> int:
    """The process that runs the task."""
    return os.getpid()


def die() -> None:
    """A task that takes its worker with it."""
    os.kill(os.getpid(), signal.SIGKILL)


def exit_with(code: int) -> None:
    """A task that leaves its process."""
    sys.exit(code)


def large_result() -> bytes:
    """A task whose result is many bytes."""
    return b"\2" * LARGE_BYTES


def never_end(path: str) -> None:
    """A task that touches a file, then waits for ever."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    threading.Event().wait()
