"""Which micro-batch of its epoch is under way, for steps that take its number, as a LightningModule's do."""

from contextvars import ContextVar

_number: ContextVar[int] = ContextVar("micro_batch_number", default=0)


def set_number(number: int) -> None:
    """Say that what is computed next, in this thread, is the micro-batch of this number, from 0."""
    _number.set(number)


def present_number() -> int:
    """Number of the micro-batch that is computed, 0 where nobody has said."""
    return _number.get()
