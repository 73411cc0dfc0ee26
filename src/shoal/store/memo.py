"""Kept results of a flow's steps, and the claims that keep two processes from computing the same one."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from sqlalchemy import Row, delete, func, insert, null, select, text

from shoal.base import Clock, InputError, decode, encode
from shoal.store.database import Database
from shoal.store.records import MemoEntry
from shoal.store.schema import memo, memo_claims
from shoal.store.times import from_us, to_us

# SQLite's oldest limit on the variables of one query is 999.
_MAX_IN_QUERY = 500
_CLAIM = text(
    "INSERT INTO memo_claims (key, owner, expires_us) VALUES (:key, :owner, :expires_us) "
    "ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, expires_us = excluded.expires_us "
    "WHERE memo_claims.owner = excluded.owner OR memo_claims.expires_us <= :now_us"
)


class SqlMemo:
    """The interface `Memo` on two narrow tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def get(self, key: str) -> MemoEntry | None:
        """The result under this key."""
        with self._database.read() as connection:
            row = connection.execute(select(memo).where(memo.c.key == key)).first()
        return None if row is None else _entry(row)

    def get_many(self, keys: Sequence[str]) -> dict[str, MemoEntry]:
        """The results under those of the keys that have one."""
        found: dict[str, MemoEntry] = {}
        with self._database.read() as connection:
            for some in _portions(keys):
                rows = connection.execute(select(memo).where(memo.c.key.in_(some)))
                found.update((row.key, _entry(row)) for row in rows)
        return found

    def put(self, entry: MemoEntry) -> None:
        """Keep the result; it replaces an earlier one under its key."""
        self.put_many([entry])

    def put_many(self, entries: Sequence[MemoEntry], *, owner: str | None = None) -> None:
        """Keep all the results or none, and in the same moment give back the owner's claims of their keys."""
        # By key: two steps that are the same work on the same inputs bring their result twice.
        rows = {entry.key: _row(entry) for entry in entries}
        with self._database.write() as connection:
            for some in _portions([*rows]):
                # Not an update: the row must get the newest sequence number, by which `last` finds it.
                connection.execute(delete(memo).where(memo.c.key.in_(some)))
                if owner is not None:
                    connection.execute(
                        delete(memo_claims).where(memo_claims.c.key.in_(some), memo_claims.c.owner == owner)
                    )
            if rows:
                connection.execute(insert(memo), [*rows.values()])

    def newest(self, flow: str) -> dict[str, MemoEntry]:
        """The result put last for each step of the flow, without its bytes."""
        latest = select(func.max(memo.c.sequence)).where(memo.c.flow == flow).group_by(memo.c.step)
        columns = [null().label("inline") if column.name == "inline" else column for column in memo.columns]
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(memo.c.sequence.in_(latest)))
            return {row.step: _entry(row) for row in rows}

    def last(self, flow: str, step: str) -> MemoEntry | None:
        """The result put last for this step."""
        query = select(memo).where(memo.c.flow == flow, memo.c.step == step).order_by(memo.c.sequence.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _entry(row)

    def claim(self, key: str, owner: str, ttl_s: float) -> bool:
        """Become the one that computes the key, or stay it."""
        return self.claim_many([key], owner, ttl_s)[key] == owner

    def claim_many(self, keys: Sequence[str], owner: str, ttl_s: float) -> dict[str, str]:
        """Try to claim each key, and tell who has it now."""
        if not ttl_s > 0:
            raise InputError(f"ttl_s={ttl_s} must be > 0", next_step="pass the seconds until you will renew the claim")
        now = self._clock.now()
        until = {"owner": owner, "expires_us": to_us(now + timedelta(seconds=ttl_s)), "now_us": to_us(now)}
        holders: dict[str, str] = {}
        with self._database.write() as connection:
            if keys:
                connection.execute(_CLAIM, [{"key": key, **until} for key in keys])
            for some in _portions(keys):
                rows = connection.execute(
                    select(memo_claims.c.key, memo_claims.c.owner).where(memo_claims.c.key.in_(some))
                )
                holders.update((row.key, row.owner) for row in rows)
        return holders

    def release(self, key: str, owner: str) -> None:
        """Give the claim back, if it is this owner's."""
        with self._database.write() as connection:
            connection.execute(delete(memo_claims).where(memo_claims.c.key == key, memo_claims.c.owner == owner))


def _portions(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _MAX_IN_QUERY):
        yield keys[start : start + _MAX_IN_QUERY]


def _row(entry: MemoEntry) -> dict[str, object]:
    if entry.inline is not None and entry.artifact is not None:
        raise InputError(
            f"cannot keep step {entry.step!r}: it has bytes inline and artifact {entry.artifact}, expected one",
            next_step="leave `inline` or `artifact` None",
        )
    return {
        "key": entry.key,
        "flow": entry.flow,
        "step": entry.step,
        "codec": entry.codec,
        "inline": entry.inline,
        "artifact": entry.artifact,
        "explain": encode(entry.explain).decode(),
        "created_us": to_us(entry.created),
        "seconds": entry.seconds,
    }


def _entry(row: Row[tuple[object, ...]]) -> MemoEntry:
    return MemoEntry(
        key=row.key,
        flow=row.flow,
        step=row.step,
        codec=row.codec,
        inline=row.inline,
        artifact=row.artifact,
        explain=decode(row.explain),
        created=from_us(row.created_us),
        seconds=row.seconds,
    )
