"""Times between Python (aware datetimes in UTC) and the tables (integer microseconds since 1970)."""

from datetime import UTC, datetime, timedelta

from shoal.base import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(time: datetime) -> int:
    """Exact microseconds since 1970; InputError for a time without zone, which could mean any of 24."""
    if time.tzinfo is None:
        raise InputError(f"the time {time} has no zone, expected an aware datetime", next_step="use datetime.now(UTC)")
    return (time - _EPOCH) // _MICROSECOND


def from_us(time_us: int) -> datetime:
    """The same instant as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=time_us)
