"""What else than code and data decides the bits of a result: threads, instruction set, builds."""

import platform
from collections.abc import Mapping

import numpy as np
import torch


def set_threads(threads: int) -> None:
    """Give every worker the same number of threads, however many workers there are: sums split by thread count."""
    torch.set_num_threads(threads)


def describe_environment(device: torch.device | None = None) -> dict[str, str]:
    """The present process, in words that are equal exactly where bits can be expected to be equal.

    With the device that it computes on, if that is given: only a worker knows.
    """
    return {
        **({} if device is None else _describe_device(device)),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    }


def _describe_device(device: torch.device) -> dict[str, str]:
    if device.type != "cuda":
        return {"device": device.type}
    return {
        "device": f"cuda, {torch.cuda.get_device_name(device)}",
        "cuda": str(torch.version.cuda or torch.version.hip),
        "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]  # torch has no types here
    }


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What changed between two environments, one line each; empty if the same bits can be expected.

    >>> differences({"torch": "2.7.0", "threads": "1"}, {"torch": "2.8.0", "threads": "1"})
    ['torch was 2.7.0, is 2.8.0']
    """
    return [
        f"{name} was {before.get(name, 'not recorded')}, is {now.get(name, 'not known')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
