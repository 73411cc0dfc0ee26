"""Python warnings in a worker, which would else stand in its log alone, where nobody looks while all seems well."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from shoal.runtime import Message
from shoal.train.reports import Cautioned, to_message

# Of one run: the first say what is wrong, and the rest stands in the log.
MAX_CAUTIONS = 5


class Office(Protocol):
    """What is used of a worker's `Context`."""

    @property
    def rank(self) -> int:
        """The worker's number, never used again in its run."""

    def report(self, message: Message) -> None:
        """Hand a message to the supervisor."""


def caution_kind(text: str) -> str:
    """What two warnings have in common that say the same of other sizes, as of the last and shorter batch.

    >>> caution_kind("UserWarning: size 64") == caution_kind("UserWarning: size 32")
    True
    """
    return re.sub(r"\d+", "0", text)


@contextmanager
def telling_warnings(office: Office) -> Iterator[None]:
    """While the block runs, tell the supervisor of the first distinct warnings of the first worker, beside printing.

    The others' are the same, as they run the same code.
    """
    if office.rank != 0:
        yield
        return
    before = warnings.showwarning
    told: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:  # noqa: ANN401 - as Python's own
        before(message, category, *place, **more)
        text = f"{category.__name__}: {message}"
        if (kind := caution_kind(text)) not in told and len(told) < MAX_CAUTIONS:
            told.add(kind)
            # The line to the supervisor may be gone already, and a warning must not end the worker.
            with suppress(Exception):
                office.report(to_message(Cautioned(worker=office.rank, text=text)))

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
