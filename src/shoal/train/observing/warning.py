"""Warnings of a run under way, which must never end it."""

import sys
import warnings


def warn(text: str, *, stacklevel: int = 1) -> None:
    """Warn the user as Python does; where warnings are errors (`-W error`), write it to standard error instead.

    Whoever asked for errors gets those of the call, before a run is begun: what is found hours later costs the run.

    Args:
        text: what is wrong, and what is done about it.
        stacklevel: as `warnings.warn` has it, 1 for the caller of this function.
    """
    try:
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel + 1)
    except RuntimeWarning:
        sys.stderr.write(f"RuntimeWarning: {text}\n")
