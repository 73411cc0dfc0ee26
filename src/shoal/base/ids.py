"""Names for new things: ids that sort by time, short random tokens, and the id of a prediction."""

import secrets
import threading
import time
from dataclasses import dataclass
from typing import ClassVar

from shoal.base.errors import InputError

# Crockford's base 32: sorts as its value does, and has no letters that are mistaken for digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS, _RANDOM_DIGITS = 10, 16
_RANDOM_SPAN = 32**_RANDOM_DIGITS

_lock = threading.Lock()
_last = 0


def new_id(prefix: str = "") -> str:
    """Make an id of 26 characters behind `prefix`, unique over machines.

    Ids of one process strictly increase, under threads and when the clock is set back; ids of different processes
    sort by the millisecond they were made in.
    """
    global _last
    fresh = time.time_ns() // 1_000_000 * _RANDOM_SPAN + secrets.randbelow(_RANDOM_SPAN)
    with _lock:
        _last = max(fresh, _last + 1)
        value = _last
    digits = []
    for _ in range(_TIME_DIGITS + _RANDOM_DIGITS):
        value, digit = divmod(value, 32)
        digits.append(_ALPHABET[digit])
    return prefix + "".join(reversed(digits))


def new_token(length: int) -> str:
    """Make `length` random lower-case letters and digits: 5 bits each, from the system's secure source."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True, slots=True)
class PredictionId:
    """Where a prediction is logged and who made it; `str()` gives the id that a client sees.

    `log_id` is the log's own id, followed by letters of the server's life: rows that a killed server had not yet made
    durable leave their numbers to its successor, and its ids must not lead to the successor's rows. Where the service
    logs a sample of its requests, the ids of all others begin it with `UNSAMPLED`, which no log's id does.
    """

    # Not all of its letters are in the alphabet that logs are named with.
    UNSAMPLED: ClassVar[str] = "unsampled-"

    model: str
    version: str
    log_id: str
    row: int

    @property
    def is_unsampled(self) -> bool:
        """Whether the service's rule for sampling left this prediction out of its log."""
        return self.log_id.startswith(self.UNSAMPLED)

    def __str__(self) -> str:
        return f"{self.model}@{self.version}.{self.log_id}.{self.row}"


def parse_prediction_id(text: str) -> PredictionId:
    """Read `model@version.log.row`; the model's name may itself hold dots and at signs.

    Raises:
        InputError: the text has another form.
    """
    head, _, row = text.rpartition(".")
    head, _, log_id = head.rpartition(".")
    model, _, version = head.rpartition("@")
    if not (model and version and log_id and row.isascii() and row.isdigit()):
        raise InputError(
            f"cannot read the prediction id {text!r}: expected model@version.log.row, as in 'fashion@3.x7k2p9.1205'",
            next_step="copy the id from `parameters.prediction_id` of the service's answer",
        )
    return PredictionId(model=model, version=version, log_id=log_id, row=int(row))
