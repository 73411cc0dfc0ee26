"""What came from what, as edges between named things."""

from collections.abc import Sequence

from sqlalchemy import Column, Connection, Row, select, text

from shoal.base import Clock, Ref, decode, encode
from shoal.store.database import Database
from shoal.store.records import Edge
from shoal.store.schema import edges
from shoal.store.times import from_us, to_us

_LINK = text(
    "INSERT INTO edges (source_key, target_key, relation, source, target, time_us) "
    "VALUES (:source_key, :target_key, :relation, :source, :target, :time_us) "
    "ON CONFLICT (source_key, target_key, relation) DO NOTHING"
)
# Below the fewest bound values that any SQLite of the last ten years takes in one statement.
_KEYS_PER_QUERY = 500


class SqlLineage:
    """The interface `Lineage` on one table."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def link(self, source: Ref, target: Ref, relation: str) -> None:
        """Remember that `target` came from `source`."""
        with self._database.write() as connection:
            write_edge(connection, source, target, relation, to_us(self._clock.now()))

    def sources_of(self, ref: Ref) -> list[Edge]:
        """The edges that end here, oldest first."""
        with self._database.read() as connection:
            return [_edge(row) for row in _rows(connection, edges.c.target_key, [_key(ref)])]

    def targets_of(self, ref: Ref) -> list[Edge]:
        """The edges that begin here, oldest first."""
        with self._database.read() as connection:
            return [_edge(row) for row in _rows(connection, edges.c.source_key, [_key(ref)])]

    def upstream(self, ref: Ref) -> list[Edge]:
        """Every edge on any way to `ref`, nearest first; one query per generation."""
        found: list[Edge] = []
        generation = [_key(ref)]
        seen = set(generation)
        with self._database.read() as connection:
            while generation:
                rows = _rows(connection, edges.c.target_key, generation)
                found += map(_edge, rows)
                generation = [*dict.fromkeys(row.source_key for row in rows if row.source_key not in seen)]
                seen.update(generation)
        return found


def write_edge(connection: Connection, source: Ref, target: Ref, relation: str, time_us: int) -> None:
    """Write an edge within the caller's transaction, unless it is there."""
    row = {
        "source_key": _key(source),
        "target_key": _key(target),
        "relation": relation,
        "source": encode(source).decode(),
        "target": encode(target).decode(),
        "time_us": time_us,
    }
    connection.execute(_LINK, row)


def _key(ref: Ref) -> str:
    # Content first: a dataset that was moved, or a package that was copied, is still the same thing.
    return f"{ref.kind}:{ref.digest or ref.address}"


def _rows(connection: Connection, column: Column[str], keys: Sequence[str]) -> list[Row[tuple[object, ...]]]:
    rows: list[Row[tuple[object, ...]]] = []
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        some = column.in_(keys[start : start + _KEYS_PER_QUERY])
        rows += connection.execute(select(edges).where(some).order_by(edges.c.sequence))
    return rows


def _edge(row: Row[tuple[object, ...]]) -> Edge:
    return Edge(
        source=decode(row.source, type=Ref),
        target=decode(row.target, type=Ref),
        relation=row.relation,
        time=from_us(row.time_us),
    )
