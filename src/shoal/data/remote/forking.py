"""Who may use the stores' engine: a forked child's copy of it has no threads, and shares its parent's sockets."""

import os

_parent: list[int] = []


def note_use() -> None:
    """Remember that this process uses the engine: children that it forks from now on must not."""
    if not _parent:
        _parent.append(os.getpid())


def is_forked_child() -> bool:
    """Whether this process was forked from one that had used the engine."""
    return bool(_parent) and _parent[0] != os.getpid()
