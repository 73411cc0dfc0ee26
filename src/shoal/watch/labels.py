"""Labels that come late: what a prediction should have been, told after it was served."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from shoal.base import Json, SystemClock
from shoal.store import Label, Store
from shoal.store import open as open_store


@contextmanager
def opened(store: Store | None) -> Iterator[Store]:
    """Give the caller's store, or for the length of the block the one that `shoal.store.open()` finds."""
    if store is not None:
        yield store
        return
    with open_store() as found:
        yield found


def label(prediction_id: str, value: Json, *, store: Store | None = None) -> None:
    """Tell what a prediction should have been; durable when it returns. A later label corrects an earlier one.

    Args:
        prediction_id: as the service gave it, in `parameters.prediction_id` of its answer.
        value: the truth; for a classifier the class's number.
        store: where; the one that `shoal.store.open()` finds by default. For many labels use `label_many`.

    Raises:
        InputError: the id is not one that a service gave.
    """
    label_many({prediction_id: value}, store=store)


def label_many(labels: Mapping[str, Json] | Iterable[tuple[str, Json]], *, store: Store | None = None) -> int:
    """Tell the truth about many predictions at once, all or none; return how many.

    Raises:
        InputError: an id is not one that a service gave.
    """
    now = SystemClock().now()
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    with opened(store) as found:
        return found.labels.put_many(
            Label(prediction_id=prediction_id, value=_plain(value), time=now) for prediction_id, value in pairs
        )


def _plain(value: Json) -> Json:
    # Labels often come out of NumPy arrays, whose numbers the store's JSON would take, but readers would compare.
    item = getattr(value, "item", None)
    return item() if callable(item) else value
