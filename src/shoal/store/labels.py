"""Labels of predictions: corrections are added, nothing is overwritten."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import distinct, func, insert, select

from shoal.base import Clock, Json, decode, encode, parse_prediction_id
from shoal.store.changes import tell
from shoal.store.database import Database
from shoal.store.records import Label
from shoal.store.schema import labels
from shoal.store.times import to_us

# Below the fewest bound values that any SQLite of the last ten years takes in one statement.
_IDS_PER_QUERY = 500


class SqlLabels:
    """The interface `Labels` on one table."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def put(self, prediction_id: str, value: Json, time: datetime) -> None:
        """Write one label."""
        self.put_many([Label(prediction_id=prediction_id, value=value, time=time)])

    def put_many(self, new: Iterable[Label]) -> int:
        """Write all or none and tell it as one change per model."""
        rows = [_row(label) for label in new]
        if not rows:
            return 0
        now = self._clock.now()
        with self._database.write() as connection:
            connection.execute(insert(labels), rows)
            for model, num_labels in Counter(str(row["model"]) for row in rows).items():
                tell(connection, "labels.put", model, {"num_labels": num_labels}, now)
        return len(rows)

    def get(self, ids: Sequence[str]) -> dict[str, Json]:
        """The label written last for each id that has one."""
        found: dict[str, Json] = {}
        with self._database.read() as connection:
            for start in range(0, len(ids), _IDS_PER_QUERY):
                some = labels.c.prediction_id.in_(ids[start : start + _IDS_PER_QUERY])
                query = select(labels.c.prediction_id, labels.c.value).where(some).order_by(labels.c.sequence)
                # In the order of writing: a later label of the same prediction takes the earlier one's place.
                found.update((id, decode(value)) for id, value in connection.execute(query))
        return found

    def count(self, model: str | None = None) -> int:
        """How many predictions have a label."""
        query = select(func.count(distinct(labels.c.prediction_id)))
        if model is not None:
            query = query.where(labels.c.model == model)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()


def _row(label: Label) -> dict[str, object]:
    return {
        "prediction_id": label.prediction_id,
        "model": parse_prediction_id(label.prediction_id).model,
        "value": encode(label.value).decode(),
        "time_us": to_us(label.time),
    }
