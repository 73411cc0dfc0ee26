"""What every driver of a peer shares: the workload's files, the loop that times whole epochs, and its one JSON line.

A driver runs in its peer's own environment, so this file needs the standard library and NumPy alone. It says how its
peer writes a workload (`write`) and which ways it reads one (`sides`: a name and a function from an epoch's number to
that epoch's batches). The batches of every peer have the same form, ready for a model:

    A  images uint8 [rows, 28, 28] and labels [rows]
    B  images uint8 [rows, 3, 224, 224]
    C  the bytes of all blobs behind one another, and where each begins and the last ends: int64 [rows + 1]
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

BATCH_SIZES = {"A": 256, "B": 64, "C": 128}
MAX_EPOCHS = 200

Batch = tuple[Any, ...]
Side = Callable[[int], Iterable[Batch]]


@dataclass(frozen=True)
class Workload:
    """The rows that every peer stores and reads: .npy files in one folder, mapped unless they are to be in memory."""

    name: str
    folder: Path
    in_memory: bool = False

    @property
    def batch_size(self) -> int:
        """Rows of a batch, the same for every peer."""
        return BATCH_SIZES[self.name]

    @cached_property
    def images(self) -> np.ndarray:
        """A and B: uint8 [num_rows, ...]."""
        return self._load("images")

    @cached_property
    def labels(self) -> np.ndarray:
        """A: int64 [num_rows]."""
        return self._load("labels")

    @cached_property
    def blobs(self) -> np.ndarray:
        """C: the bytes of all rows behind one another."""
        return self._load("blobs")

    @cached_property
    def offsets(self) -> np.ndarray:
        """C: where each row begins and the last ends, int64 [num_rows + 1]."""
        return self._load("offsets")

    @property
    def num_rows(self) -> int:
        """How many rows an epoch must deliver."""
        return len(self.offsets) - 1 if self.name == "C" else len(self.images)

    def arrays(self) -> list[np.ndarray]:
        """All columns, one array each; C has blobs and offsets."""
        if self.name == "C":
            return [self.blobs, self.offsets]
        return [self.images, self.labels] if self.name == "A" else [self.images]

    def blob(self, row: int) -> bytes:
        """C: one row."""
        return self.blobs[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows one by one, as peers with a writer of samples take them."""
        if self.name == "C":
            return ((self.blob(row),) for row in range(self.num_rows))
        return zip(self.images, self.labels, strict=True) if self.name == "A" else ((image,) for image in self.images)

    def _load(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode=None if self.in_memory else "r")


class Peer(Protocol):
    """What a driver says of its peer."""

    settings: dict[str, str]  # per workload, or "all": what was chosen, for the reader of the results

    def write(self, workload: Workload, folder: Path) -> None:
        """Store the workload in the peer's own format under an empty folder."""

    def sides(self, workload: Workload, folder: Path) -> dict[str, Side]:
        """Open what `write` made; one entry for each way of reading that is measured."""


def drive(peer: Peer, arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks of a driver and print one JSON line.

    `write A DATA FOLDER` gives the seconds that storing took; `check A DATA FOLDER` reads an epoch and compares all
    bytes delivered with the workload's; `read SECONDS A DATA FOLDER ...` gives rows per second of each timed epoch.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["write", "check", "read"])
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each side is timed at least")
    parser.add_argument("parts", nargs="+", metavar="NAME DATA FOLDER")
    given = parser.parse_args(arguments)
    triples = [given.parts[start : start + 3] for start in range(0, len(given.parts), 3)]
    found: dict[str, Any] = {"settings": peer.settings}
    # Libraries print on stdout what is not asked for; the last line is ours alone.
    with redirect_stdout(sys.stderr):
        for name, data, folder in triples:
            workload = Workload(name, Path(data), in_memory=given.verb == "write")
            if given.verb == "write":
                found[name] = _seconds_to_write(peer, workload, Path(folder))
            elif given.verb == "check":
                for side, read in peer.sides(workload, Path(folder)).items():
                    check(workload, read(0), side)
                found[name] = True
            else:
                found[name] = time_sides(peer.sides(workload, Path(folder)), workload, given.seconds)
    print(json.dumps(found), flush=True)


def time_sides(sides: dict[str, Side], workload: Workload, seconds: float) -> dict[str, list[float]]:
    """Rows per second of whole epochs, the sides in turn; a side that is slow is timed once.

    The first epoch also starts workers and fills caches: who reads the figures drops it where there are others.
    """
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for epoch in itertools.count():
        due = [side for side in sides if sum(taken[side]) < seconds or len(taken[side]) < 2]
        due = [side for side in due if not taken[side] or taken[side][0] < 2 * seconds]
        if not due or epoch == MAX_EPOCHS:
            break
        for side in due:
            taken[side].append(_seconds_of_epoch(sides[side], epoch, workload))
    return {side: [workload.num_rows / each for each in found] for side, found in taken.items()}


def check(workload: Workload, batches: Iterable[Batch], side: str) -> None:
    """Raise unless the batches hold every row of the workload exactly once, byte for byte, and in another order."""
    expected, found = _row_sums(workload, _plain_batches(workload)), _row_sums(workload, batches)
    if not np.array_equal(np.sort(expected), np.sort(found)):
        raise AssertionError(f"{side}: {len(found)} rows of workload {workload.name} differ from the {len(expected)}")
    if np.array_equal(expected, found):
        raise AssertionError(f"{side}: the rows came in storage order: not shuffled")


def image_batch(images: Sequence[bytes], shape: tuple[int, ...], labels: Sequence[int]) -> Batch:
    """Images as one tensor, with their labels if there are any: one join, the fastest collation of bytes."""
    import torch

    joined = torch.frombuffer(bytearray().join(images), dtype=torch.uint8).view(len(images), *shape)
    return (joined, torch.tensor(labels)) if labels else (joined,)


def flat_batch(blobs: Sequence[bytes]) -> tuple[Any, Any]:
    """Blobs as one tensor of bytes with offsets, by one join as well."""
    import torch

    offsets = torch.tensor([0, *itertools.accumulate(map(len, blobs))])
    return torch.frombuffer(bytearray().join(blobs), dtype=torch.uint8), offsets


def _seconds_of_epoch(read: Side, epoch: int, workload: Workload) -> float:
    began = time.perf_counter()
    num_rows = 0
    is_blobs = workload.name == "C"
    for batch in read(epoch):
        num_rows += len(batch[1]) - 1 if is_blobs else len(batch[0])
    seconds = time.perf_counter() - began
    if num_rows != workload.num_rows:
        raise AssertionError(f"an epoch had {num_rows} rows, expected {workload.num_rows}")
    return seconds


def _seconds_to_write(peer: Peer, workload: Workload, folder: Path) -> float:
    workload.arrays()  # loaded before the clock starts: writing is from arrays in memory
    began = time.perf_counter()
    peer.write(workload, folder)
    return time.perf_counter() - began


def _plain_batches(workload: Workload) -> Iterator[Batch]:
    if workload.name == "C":
        yield workload.blobs, workload.offsets
    elif workload.name == "A":
        yield workload.images, workload.labels
    else:
        yield (workload.images,)


def _row_sums(workload: Workload, batches: Iterable[Batch]) -> np.ndarray:
    """A hash of each row delivered, so that two ways of reading are compared without holding both."""
    found = []
    for batch in batches:
        data, *rest = [np.asarray(part) for part in batch]
        if workload.name == "C":
            found += [hash(data[a:b].tobytes()) for a, b in itertools.pairwise(rest[0].tolist())]
        else:
            if data.shape[1:] != workload.images.shape[1:] or data.dtype != np.uint8:
                raise AssertionError(f"a batch has shape {data.shape} of {data.dtype}")
            labels = rest[0].tolist() if rest else itertools.repeat(0)
            found += [hash((row.tobytes(), label)) for row, label in zip(data, labels, strict=bool(rest))]
    return np.array(found)
