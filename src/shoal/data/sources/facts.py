"""What a source tells of itself: where rows came from, as every version keeps it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFact:
    """Where rows came from: `path` is a file or says what was handed over; `digest` is None for rows from memory."""

    path: str
    digest: str | None
    num_rows: int
