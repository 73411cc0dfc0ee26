"""Counters in shared memory, by which processes wait for each other; compiled where there was a compiler.

A counter takes `COUNTER_BYTES` at a multiple of 8: a 64-bit number that only its owner raises, and what the compiled
part keeps beside it. Processes with and without the compiled part may meet: those with it then sleep out their time.
"""

import threading
import time
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    native: Any = import_module("shoal.train.group._waiting")
except ImportError:
    native = None

COUNTER_BYTES = 16

_Memory = NDArray[np.uint8]

# How long the twin in Python sleeps between two looks: short beside a training step, long beside the look.
_NAP_S = 0.0001
_fence = threading.Lock()


def raise_to(memory: _Memory, offset: int, value: int) -> None:
    """Set the counter at a byte of `memory` and wake who waits for it.

    Whoever sees the value also sees everything that this thread wrote before.
    """
    if native is not None:
        native.raise_to(memory, offset, value)
        return
    _order_memory()
    memory[offset : offset + 8].view(np.uint64)[0] = value


def wait_for(memory: _Memory, stride: int, count: int, value: int, *, spin_s: float, timeout_s: float) -> bool:
    """Wait, with the interpreter let go, until all of some counters are at least `value`.

    Args:
        memory: its first byte is the first counter's.
        stride: bytes from one counter to the next.
        count: how many there are.
        value: to be reached.
        spin_s: how long to look without sleeping, which answers soonest and keeps a processor busy.
        timeout_s: after which the answer is False.
    """
    if native is not None:
        done: bool = native.wait_for(memory, stride, count, value, int(spin_s * 1e9), int(timeout_s * 1e9))
        return done
    words = memory[: stride * (count - 1) + 8].view(np.uint64)[:: stride // 8]
    deadline = time.monotonic() + timeout_s
    while words.min() < value:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_NAP_S)
    _order_memory()
    return True


def _order_memory() -> None:
    # Two rounds through a lock: what stood before the first cannot be seen after what stands behind the second.
    for _ in range(2):
        with _fence:
            pass
