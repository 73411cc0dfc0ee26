"""Streams of random numbers that depend on what they are for, and on nothing that was drawn before."""

from collections.abc import Iterable

import torch

_MASK = (1 << 64) - 1


def stream_seed(seed: int, step: int, part: int) -> int:
    """The start of one stream, such as that of a virtual worker in a step; neighbours get unrelated numbers.

    Source: the finaliser of SplitMix64, Steele et al. 2014, once per key word.
    """
    value = seed & _MASK
    for word in (step, part):
        value = (value + 0x9E3779B97F4A7C15 * (word + 1)) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value


def seed_generators(seed: int, devices: Iterable[torch.device]) -> None:
    """Begin a stream on the CPU and on each GPU among some devices: a task may draw from any of them."""
    # The generators themselves: torch.manual_seed visits every accelerator, which takes 100 times as long.
    torch.default_generator.manual_seed(seed)
    for device in devices:
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
