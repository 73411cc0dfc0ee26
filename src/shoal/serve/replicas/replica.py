"""A replica: the process that runs ONNX Runtime. It holds no request that a front has not, so it may die any time."""

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from shoal.base import InputError, PackageError, ServeError, ShoalError
from shoal.runtime import Context
from shoal.serve.links.channel import (
    Done,
    Failed,
    Frame,
    Hello,
    Key,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Unload,
    Work,
)
from shoal.serve.replicas.front_link import FrontLink, connect

if TYPE_CHECKING:
    from shoal.serve.replicas.loading import LoadedModel
    from shoal.serve.replicas.remote_front_link import RemoteFrontLink

AnyFrontLink: TypeAlias = "FrontLink | RemoteFrontLink"

# A new front needs some 0.3 s to start; looking more often would only take processor time from it.
_RECONNECT_S = 0.05
_NICE = 5


def run_replica(context: Context, *, socket_paths: list[str], threads: int) -> None:
    """The entry of a replica's process: serve every front, wait for the successor of one that dies, end when told."""
    # Only here: the supervisor names this entry, and shall not load ONNX Runtime for it.
    from shoal.serve.replicas.loading import load_model

    # Replicas compute whenever they may: whoever answers clients and gives them their next batch goes first.
    os.nice(_NICE)
    replica = Replica(context, lambda path: load_model(path, threads=threads))
    replica.serve([partial(connect, path) for path in socket_paths])
    replica.close()


class Replica:
    """Runs batches in its main thread and loads versions in another, so that a swap does not hold up traffic.

    Each front gives it at most one batch at a time. Batches of several fronts run in the order they came, so that none
    waits for more than one batch of each other front.
    """

    def __init__(
        self,
        context: Context,
        load: Callable[[str], "LoadedModel"],
        make_link: Callable[[int, socket.socket], AnyFrontLink] = FrontLink,
    ) -> None:
        self._context = context
        self._load_model = load
        self._make_link = make_link
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._fronts: dict[int, AnyFrontLink] = {}
        self._poll = select.poll()
        self._links: dict[int, AnyFrontLink] = {}
        self._works: deque[tuple[AnyFrontLink, Work]] = deque()
        self._next_look_s = 0.0
        # Guards what follows: the loader changes it too.
        self._loading_lock = threading.Lock()
        self._models: dict[Key, LoadedModel] = {}
        self._loading: dict[Key, str] = {}
        # The slots of the fronts that want a version; it goes when the last of them lets it go.
        self._holders: dict[Key, set[int]] = {}

    def serve(self, doors: Sequence[Callable[[], socket.socket | None]]) -> None:
        """Do what the fronts say until the member should stop.

        Args:
            doors: for each slot, what connects to the front there; None while there is none.
        """
        self._poll.register(self._context.fileno(), select.POLLIN)
        while not self._context.stopping.is_set():
            if len(self._links) < len(doors):
                self._look_for_fronts(doors)
            for descriptor, _ in self._poll.poll(self._wait_ms(len(doors))):
                front = self._fronts.get(descriptor)
                if front is None:
                    # The supervisor tells replicas nothing but to stop.
                    self._context.receive_nowait()
                else:
                    self._hear(front)
            if self._works:
                front, work = self._works.popleft()
                front.send(self._run(work, front))
        for front in list(self._links.values()):
            self._leave(front)

    def close(self) -> None:
        """Stop loading; a load that has begun is waited for."""
        self._loader.shutdown(cancel_futures=True)

    def _wait_ms(self, num_doors: int) -> float | None:
        if self._works:
            return 0
        return None if len(self._links) == num_doors else _RECONNECT_S * 1000

    def _look_for_fronts(self, doors: Sequence[Callable[[], socket.socket | None]]) -> None:
        # A front that is gone must not cost the others a system call per batch.
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + _RECONNECT_S
        for slot, door in enumerate(doors):
            if slot not in self._links and (connection := door()) is not None:
                self._welcome(self._make_link(slot, connection))

    def _welcome(self, front: AnyFrontLink) -> None:
        self._links[front.slot] = self._fronts[front.fileno()] = front
        self._poll.register(front.fileno(), select.POLLIN)
        with self._loading_lock:
            for key in self._models:
                self._holders.setdefault(key, set()).add(front.slot)
            known = [_loaded(key, model) for key, model in self._models.items()]
            front.send(Hello(self._context.rank, os.getpid(), front.host), *known)

    def _leave(self, front: AnyFrontLink) -> None:
        self._poll.unregister(front.fileno())
        del self._fronts[front.fileno()]
        # Under the lock, so that the loader does not send to a descriptor that may mean another file by then.
        with self._loading_lock:
            del self._links[front.slot]
            front.close()
        self._works = deque(each for each in self._works if each[0] is not front)

    def _hear(self, front: AnyFrontLink) -> None:
        frames = front.receive()
        if frames is None:
            self._leave(front)
            return
        for frame in frames:
            if isinstance(frame, Work):
                self._works.append((front, frame))
            elif isinstance(frame, Load):
                self._ask_for(front, frame)
            elif isinstance(frame, Unload):
                self._let_go(front, Key(frame.model, frame.version))
            elif isinstance(frame, Ping):
                front.send(Pong())

    def _run(self, work: Work, front: AnyFrontLink) -> Frame:
        # A front sends only what it was told is loaded: anything else is a bug of ours, and ends the process.
        model = self._models[Key(work.model, work.version)]
        try:
            inputs = front.incoming.read(work.block, work.slots)
            started_s = time.perf_counter()
            outputs = model.run(inputs)
            seconds = time.perf_counter() - started_s
            block, slots = front.outgoing.write([[output] for output in outputs])
        except (PackageError, InputError) as error:
            return Failed(work.batch, error.message, blames_input=True)
        except ServeError as error:
            return Failed(work.batch, error.message, blames_input=False, blames_model=True, next_step=error.next_step)
        except ShoalError as error:
            return Failed(work.batch, str(error), blames_input=False)
        return Done(work.batch, block, slots, seconds)

    def _ask_for(self, front: AnyFrontLink, frame: Load) -> None:
        key = Key(frame.model, frame.version)
        with self._loading_lock:
            self._holders.setdefault(key, set()).add(front.slot)
            model = self._models.get(key)
            if model is not None and model.path == frame.path:
                front.send(_loaded(key, model))
            elif self._loading.get(key) != frame.path:
                self._loading[key] = frame.path
                self._loader.submit(self._load, key, frame.path)

    def _let_go(self, front: AnyFrontLink, key: Key) -> None:
        with self._loading_lock:
            holders = self._holders.get(key, set())
            holders.discard(front.slot)
            if not holders:
                self._holders.pop(key, None)
                self._models.pop(key, None)

    def _load(self, key: Key, path: str) -> None:
        model, answer = None, None
        try:
            model = self._load_model(path)
        except ShoalError as error:
            answer = LoadFailed(key.model, key.version, error.message, error.next_step)
        except Exception as error:  # noqa: BLE001  # the boundary to whatever a foreign model makes ONNX Runtime raise
            answer = LoadFailed(key.model, key.version, f"cannot load {path}: {error}", "check the model")
        with self._loading_lock:
            self._loading.pop(key, None)
            if model is not None:
                self._models[key] = model
            # A front that is away hears of the version right after Hello.
            asking = self._holders.get(key, set()) if model is not None else self._holders.pop(key, set())
            for front in [self._links[slot] for slot in asking if slot in self._links]:
                front.send(answer or _loaded(key, self._models[key]))


def _loaded(key: Key, model: "LoadedModel") -> Loaded:
    return Loaded(key.model, key.version, model.path, model.interface, model.timings, model.model_kind)
