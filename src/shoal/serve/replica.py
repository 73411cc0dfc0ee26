"""A replica: the process that runs ONNX Runtime. It holds no request that the front has not, so it may die any time."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from shoal.base import InputError, PackageError, ShoalError
from shoal.runtime import Context
from shoal.serve.channel import (
    Done,
    Failed,
    Frame,
    FrameReader,
    Hello,
    IncomingTensors,
    Load,
    Loaded,
    LoadFailed,
    OutgoingTensors,
    Unload,
    Work,
    encode_frame,
)
from shoal.serve.queue import Key

if TYPE_CHECKING:
    from shoal.serve.loading import LoadedModel

# A new front needs some 0.3 s to start; looking more often would only take processor time from it.
_RECONNECT_S = 0.05
_READ_BYTES = 64 << 10


def run_replica(context: Context, *, socket_path: str, threads: int) -> None:
    """The entry of a replica's process: serve the front, wait for its successor when it dies, end when told."""
    # Only here: the supervisor names this entry, and shall not load ONNX Runtime for it.
    from shoal.serve.loading import load_model

    replica = Replica(context, lambda path: load_model(path, threads=threads))
    while not context.stopping.is_set():
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(socket_path)
                replica.serve(connection)
        except OSError:
            # The front is not up yet, or died: its supervisor starts it again.
            context.stopping.wait(_RECONNECT_S)
    replica.close()


class Replica:
    """Runs batches in its main thread and loads versions in another, so that a swap does not hold up traffic."""

    def __init__(self, context: Context, load: Callable[[str], "LoadedModel"]) -> None:
        self._context = context
        self._load_model = load
        self._models: dict[Key, LoadedModel] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        # Both threads send; a frame must not be cut by another.
        self._sending = threading.Lock()
        self._connection: socket.socket | None = None

    def serve(self, connection: socket.socket) -> None:
        """Do what the front says until it goes away or the member should stop."""
        # New for every front: the last one took the names of the old blocks with it.
        incoming, outgoing = IncomingTensors(), OutgoingTensors()
        with self._sending:
            self._connection = connection
            connection.sendall(encode_frame(Hello(self._context.rank, os.getpid())))
            for key, model in list(self._models.items()):
                connection.sendall(encode_frame(_loaded(key, model)))
        try:
            self._serve(connection, incoming, outgoing)
        finally:
            with self._sending:
                self._connection = None
            incoming.close()
            outgoing.close()

    def close(self) -> None:
        """Stop loading; a load that has begun is waited for."""
        self._loader.shutdown(cancel_futures=True)

    def _serve(self, connection: socket.socket, incoming: IncomingTensors, outgoing: OutgoingTensors) -> None:
        reader = FrameReader()
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self._context.fileno(), select.POLLIN)
        while not self._context.stopping.is_set():
            if all(descriptor != connection.fileno() for descriptor, _ in poll.poll()):
                # The supervisor tells replicas nothing but to stop.
                self._context.receive_nowait()
                continue
            data = connection.recv(_READ_BYTES)
            if not data:
                return
            for frame in reader.feed(data):
                if isinstance(frame, Work):
                    self._send(self._run(frame, incoming, outgoing))
                elif isinstance(frame, Load):
                    self._loader.submit(self._load, frame)
                elif isinstance(frame, Unload):
                    self._models.pop(Key(frame.model, frame.version), None)

    def _run(self, work: Work, incoming: IncomingTensors, outgoing: OutgoingTensors) -> Frame:
        # The front sends only what it was told is loaded: anything else is a bug of ours, and ends the process.
        model = self._models[Key(work.model, work.version)]
        try:
            inputs = incoming.read(work.block, work.slots)
            started_s = time.perf_counter()
            outputs = model.run(inputs)
            seconds = time.perf_counter() - started_s
            block, slots = outgoing.write([[output] for output in outputs])
        except (PackageError, InputError) as error:
            return Failed(work.batch, error.message, blames_input=True)
        except ShoalError as error:
            return Failed(work.batch, str(error), blames_input=False)
        return Done(work.batch, block, slots, seconds)

    def _load(self, frame: Load) -> None:
        key = Key(frame.model, frame.version)
        answer: Frame
        try:
            model = self._load_model(frame.path)
        except ShoalError as error:
            answer = LoadFailed(frame.model, frame.version, error.message, error.next_step)
        except Exception as error:  # noqa: BLE001  # the boundary to whatever a foreign model makes ONNX Runtime raise
            answer = LoadFailed(frame.model, frame.version, f"cannot load {frame.path}: {error}", "check the model")
        else:
            self._models[key] = model
            answer = _loaded(key, model)
        try:
            self._send(answer)
        except OSError:
            # The front died meanwhile; the next one hears of the version right after Hello.
            return

    def _send(self, frame: Frame) -> None:
        with self._sending:
            if self._connection is not None:
                self._connection.sendall(encode_frame(frame))


def _loaded(key: Key, model: "LoadedModel") -> Loaded:
    return Loaded(key.model, key.version, model.path, model.interface, model.timings, model.model_kind)
