"""The first code of a child process, run as a file: `python child.py <role> <rank> <descriptor>`; or of a forked one.

Each import here is paid by every member at its start, before any of the user's own: only what is needed to listen.
"""

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shoal.runtime.context import Context
    from shoal.runtime.frames import Channel

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def main() -> None:
    """Read what to run from the socket that `sys.argv` names, run it, and exit as it did."""
    descriptor = int(sys.argv[-1])
    os.set_inheritable(descriptor, False)
    # The supervisor may have found shoal on a path that a fresh interpreter does not have.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120  # pathlib is a slow import
    live(descriptor)


def live(descriptor: int) -> None:
    """Be the member whose line to the supervisor this is; returns at its end, or raises SystemExit."""
    import marshal

    from shoal.runtime.frames import FAILURE, Channel

    channel = Channel(descriptor)
    frame = channel.read()
    if frame is None:
        return
    boot: dict[str, Any] = marshal.loads(frame[1])  # noqa: S302  # from our own supervisor, over a private socket
    sys.path[:] = boot["import_path"]
    if "environment" in boot:
        _settle(boot["environment"], boot["folder"])
    context = _become_member(boot, channel)
    try:
        _run(boot, context)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  # the boundary: whatever the user's code raises goes to the supervisor
        from shoal.base import ShoalError
        from shoal.runtime.raised import describe

        summary, text = describe(error, skip_file=__file__)
        # What an error of ours advises is better than what can be said of any.
        next_step = error.next_step if isinstance(error, ShoalError) else ""
        summary = summary.removesuffix(f"; next: {next_step}")
        channel.write(FAILURE, marshal.dumps({"summary": summary, "next_step": next_step, "traceback": text}))
        sys.stderr.write(text)
        sys.exit(1)


def _settle(environment: dict[str, str], folder: str | None) -> None:
    """Take over what may have changed since the server of a forked member was started."""
    os.environ.clear()
    os.environ.update(environment)
    if folder is not None:
        # It may be gone by now, which is no reason to refuse a member that needs none.
        with suppress(OSError):
            os.chdir(folder)


def _become_member(boot: dict[str, Any], channel: "Channel") -> "Context":
    import faulthandler
    import signal

    from shoal.runtime.context import Context

    die_with_parent(signal.SIGKILL)
    _set_name(f"{boot['role']}-{boot['rank']}")
    faulthandler.enable()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # Twice, for two cases: the wake-up descriptor is written even while the main thread is inside C code, and the
    # handler still works where an event loop has put its own wake-up descriptor in place.
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    # The second is what batch systems send before they end a job, to every process of it.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: _nudge(write_end, number))
    place = {name: boot[name] for name in ("role", "rank", "world_size")}
    return Context(**place, channel=channel, signals=read_end, orphaned=_vanish)


def _run(boot: dict[str, Any], context: "Context") -> None:
    from shoal.runtime.entry import find_entry

    entry = find_entry(boot["module"], boot["qualname"], boot["payload"])
    # Asked to stop while the user's modules were imported: the entry would only find out that it should return.
    if not context.stopping.is_set():
        entry(context, **boot["config"])


def _nudge(descriptor: int, number: int) -> None:
    # Full: the listener has been told already.
    with suppress(BlockingIOError):
        os.write(descriptor, bytes([number]))


def die_with_parent(signal_number: int) -> None:
    """Ask Linux for our death with our parent's; elsewhere the end of the socket is the only sign."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def _set_name(name: str) -> None:
    """What lists of processes show, where forked members all have their server's arguments."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _vanish() -> None:
    """End at once, with all that this process has started: nobody is left to hear of it."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, 9)
    os._exit(1)


if __name__ == "__main__":
    main()
