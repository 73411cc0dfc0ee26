"""One member's keeper as an actor: started by Ray on some node, and ended with its member."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from shoal.runtime.ray.connecting import ray
from shoal.runtime.remote.keeper import Keeper
from shoal.runtime.remote.line import Line
from shoal.runtime.remote.reception import Reception, call

# How long Ray may take to say why an actor is gone, which we knew before it.
_EXPLAIN_S = 2.0
_MAX_STARTS = 5
_START_AGAIN_S = 1.0
# How often a keeper looks whether its node is still there.
_NODE_LOOK_S = 0.2


class _KeeperActor:
    # What it runs is shoal's own code on the node; the member's code comes over the line.
    def keep(self, address: str, port: int, token: bytes, number: int, folder: str) -> None:
        # A relative path means the same as at home, where the file system is shared.
        if Path(folder).is_dir():
            os.chdir(folder)
        line = call(address, port, token, number)
        threading.Thread(target=_leave_with_node, args=(os.getppid(), line), daemon=True).start()
        Keeper(line, host=str(ray.util.get_node_ip_address())).serve()


def _leave_with_node(raylet: int, line: Line) -> None:
    """Hang up when Ray's daemon on this node, our parent, is gone: Ray lets a task that runs go on after it."""
    while os.getppid() == raylet:
        time.sleep(_NODE_LOOK_S)
    line.hang_up()


class RayHost:
    """Provides one member's keeper; keeps the promises of `Host`."""

    def __init__(self, reception: Reception, number: int, options: dict[str, Any]) -> None:
        """Ask Ray for the actor; where it must wait for room, so does the member."""
        self._reception = reception
        self._number = number
        self._options = options
        self._reason = ""
        self._line: Line | None = None
        self._is_released = False
        self._explained = threading.Event()
        # Held to start and to kill an actor, so that none is started after the release.
        self._lock = threading.Lock()
        self._actor: Any = None
        threading.Thread(target=self._watch, args=(str(Path.cwd()),), name="shoal-ray-watch", daemon=True).start()

    def connect(self) -> Line | None:
        """The keeper's line, as `Host.connect` promises."""
        self._line = self._reception.wait(self._number)
        return self._line

    def explain(self) -> str:
        """What Ray says of the actor."""
        self._explained.wait(_EXPLAIN_S)
        return self._reason or "its node does not answer"

    def asked_to_stop(self) -> None:
        """Nobody but the supervisor ends an actor in order."""

    def release(self) -> None:
        """Kill the actor, and with it the member."""
        self._reception.give_up(self._number)
        with self._lock:
            self._is_released = True
            self._kill()

    def _watch(self, folder: str) -> None:
        # A node that died a moment ago still gets actors, until Ray has noticed; they fail when it does.
        for _ in range(_MAX_STARTS):
            end = self._start(folder)
            if end is None or self._ends(end) or self._line is not None:
                break
            time.sleep(_START_AGAIN_S)
        # A machine may be gone without a word, and Ray know of it. What had arrived here can still be read.
        if self._line is not None and self._reason:
            self._line.hang_up()
        self._explained.set()
        self._reception.give_up(self._number)

    def _start(self, folder: str) -> Any:  # noqa: ANN401  # one of Ray's references
        with self._lock:
            if self._is_released:
                return None
            self._kill()
            self._actor = ray.remote(_KeeperActor).options(**self._options).remote()
            reception = self._reception
            return self._actor.keep.remote(reception.address, reception.port, reception.token, self._number, folder)

    def _ends(self, end: Any) -> bool:  # noqa: ANN401  # as above
        """Wait for the actor's end; whether it was in order."""
        try:
            ray.get(end)
        except Exception as error:  # noqa: BLE001  # the boundary: whatever Ray says of its actor is the reason
            self._reason = f"{type(error).__name__}: {error}"
            return False
        return True

    def _kill(self) -> None:
        # Gone already, or the connection to the cluster is.
        with suppress(Exception):
            if self._actor is not None:
                ray.kill(self._actor)
