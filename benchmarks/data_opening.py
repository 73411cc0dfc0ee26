"""A fresh process, imports done: milliseconds from opening a dataset to its first batch, and to a batch resumed at.

Run as a child by data.py: `data_opening.py FOLDER BATCH_SIZE` prints one JSON line.
"""

import json
import random
import sys
import time

import torch  # noqa: F401  # imports are not what is measured
from data_memory import anonymous_bytes

import shoal.data

NUM_RESUMED = 50


def main() -> None:
    """Print first batch and resume times, and the size of the loader's state."""
    folder, batch_size = sys.argv[1], int(sys.argv[2])
    _ = shoal.data.open, shoal.data.Loader  # the face loads its parts when they are first named
    anonymous = anonymous_bytes()
    began = time.perf_counter()
    dataset = shoal.data.open(folder)
    opened = time.perf_counter()
    loader = dataset.loader(batch_size=batch_size, shuffle=True)
    next(iter(loader))
    first = time.perf_counter()
    grown = anonymous_bytes() - anonymous
    states = _states_at_random(loader)
    print(
        json.dumps(
            {
                "open_ms": 1e3 * (opened - began),
                "first_batch_ms": 1e3 * (first - opened),
                "state_bytes": len(json.dumps(loader.state_dict())),
                "grown_bytes": grown,
                "resume_ms": [_resume_ms(folder, batch_size, state) for state in states],
            }
        )
    )


def _states_at_random(loader: shoal.data.Loader) -> list[dict]:
    wanted = set(random.Random(7).sample(range(len(loader)), min(NUM_RESUMED, len(loader))))
    return [loader.state_dict() for number, _ in enumerate(loader) if number in wanted]


def _resume_ms(folder: str, batch_size: int, state: dict) -> float:
    loader = shoal.data.open(folder).loader(batch_size=batch_size, shuffle=True)
    began = time.perf_counter()
    loader.load_state_dict(state)
    next(iter(loader))
    return 1e3 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
