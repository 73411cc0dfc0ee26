"""What a call leaves open: how many workers, where they compute, and how many rows a batch has."""

import os
import re
import sys
from typing import Any

from shoal.base import ConfigError
from shoal.store import RunRecord, Store

# Rows of a batch where nothing says otherwise.
_USUAL_BATCH = 64
# How a record says that nobody asked for a device.
AUTO = "auto"


def choose_workers(least: int, most: int, threads: int) -> int:
    """As many workers as there are processors for, within the limits; ConfigError if the limits are none."""
    if not 1 <= least <= most:
        raise ConfigError(
            f"workers=({least}, {most}) must be two numbers, 1 <= least <= most",
            next_step="give one number, or the least and the most",
        )
    # The processors that this process may use, where the system can say; a container often has fewer than the machine.
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(most, max(least, num_cpus // threads))


def usual_batch_size(train: object) -> int:
    """Rows of a batch where the call does not say: a DataLoader's own, which somebody has chosen for it."""
    loading = sys.modules.get("torch.utils.data")
    own = train.batch_size if loading is not None and isinstance(train, loading.DataLoader) else None
    return own or _USUAL_BATCH


def recorded_workers(store: Store, record: RunRecord) -> int | tuple[int, int]:
    """As many workers as a run was started with; in older records, as it had last."""
    limits = re.fullmatch(r"(\d+)-(\d+)", str(record.environment.get("workers", "")))
    if limits is not None:
        least, most = int(limits[1]), int(limits[2])
        return least if least == most else (least, most)
    known: list[Any] = [e.fields["workers"] for e in store.runs.events(record.id) if e.kind == "generation"]
    return max(len(known[-1]), 1) if known else 1


def recorded_device(record: RunRecord) -> str | None:
    """The device that a run was started with; None where nobody asked for one."""
    asked = str(record.environment.get("device", AUTO))
    return None if asked == AUTO else asked
