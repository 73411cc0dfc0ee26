"""Reads and writes of the registry's tables within a transaction of the caller."""

import difflib
from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path

from sqlalchemy import Connection, Row, delete, func, insert, select, text

from shoal.base import Json, NotFoundError, decode, encode
from shoal.store.addresses import PRODUCTION, ModelAddress
from shoal.store.changes import tell
from shoal.store.gate_report import GateResult
from shoal.store.records import AliasMove, ModelVersion
from shoal.store.run_ids import run_id
from shoal.store.schema import alias_moves, aliases, canaries, model_versions
from shoal.store.times import from_us, to_us

_SET_ALIAS = text(
    "INSERT INTO aliases (name, alias, version) VALUES (:name, :alias, :version) "
    "ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version"
)

VersionRow = Row[tuple[object, ...]]


def find_row(connection: Connection, address: ModelAddress) -> VersionRow:
    """The row that an address means.

    Raises:
        NotFoundError: there is no such model, version or alias; the message names what there is.
    """
    name = address.name
    version = address.version
    if version is None:
        means = read_aliases(connection, name)
        if address.alias is not None and address.alias not in means:
            raise _not_found(connection, f"{name}@{address.alias}", name, f"its aliases are {sorted(means)}")
        version = means.get(address.alias or PRODUCTION)
    query = select(model_versions).where(model_versions.c.name == name).order_by(model_versions.c.version.desc())
    if version is not None:
        query = query.where(model_versions.c.version == version)
    row = connection.execute(query.limit(1)).first()
    if row is None:
        raise _not_found(connection, f"{name}@{version}", name, f"its newest is {newest_version(connection, name)}")
    return row


def newest_version(connection: Connection, name: str) -> int:
    """The highest version number of a model; 0 when it has none."""
    query = select(func.max(model_versions.c.version)).where(model_versions.c.name == name)
    return connection.execute(query).scalar() or 0


def read_aliases(connection: Connection, name: str) -> dict[str, int]:
    """The version that each alias of a model means."""
    query = select(aliases.c.alias, aliases.c.version).where(aliases.c.name == name).order_by(aliases.c.alias)
    return {row.alias: row.version for row in connection.execute(query)}


def read_moves(connection: Connection, name: str, alias: str | None = None) -> list[AliasMove]:
    """The moves of one alias or of all, oldest first."""
    query = select(alias_moves).where(alias_moves.c.name == name).order_by(alias_moves.c.sequence)
    if alias is not None:
        query = query.where(alias_moves.c.alias == alias)
    return [_move(row) for row in connection.execute(query)]


def write_move(connection: Connection, name: str, move: AliasMove) -> None:
    """Let the alias mean another version, keep the move, tell it, and end a canary that became production."""
    connection.execute(_SET_ALIAS, {"name": name, "alias": move.alias, "version": move.version})
    row = {
        "name": name,
        "alias": move.alias,
        "version": move.version,
        "previous": move.previous,
        "reason": move.reason,
        "results": encode(move.results).decode(),
        "time_us": to_us(move.time),
    }
    connection.execute(insert(alias_moves), row)
    told: dict[str, Json] = {"alias": move.alias, "version": move.version, "previous": move.previous}
    tell(connection, "alias.moved", name, {**told, "reason": move.reason}, move.time)
    # Whatever the reason of the move: a rollback to the canary's version would share traffic with itself too.
    if move.alias == PRODUCTION:
        ended = delete(canaries).where(canaries.c.name == name, canaries.c.version == move.version)
        if connection.execute(ended).rowcount:
            tell(connection, "canary.ended", name, {"version": move.version}, move.time)


def model_version(row: VersionRow, path_of: Callable[[str], Path]) -> ModelVersion:
    """The row as the value that users get; `path_of` finds the package by its digest."""
    metrics: dict[str, float | None] = decode(row.metrics)
    return ModelVersion(
        name=row.name,
        version=row.version,
        digest=row.digest,
        path=path_of(row.digest),
        run=None if row.run is None else run_id(row.run),
        # JSON has no NaN: it is written as null.
        metrics={name: nan if value is None else value for name, value in metrics.items()},
        created=from_us(row.created_us),
    )


def _move(row: VersionRow) -> AliasMove:
    return AliasMove(
        time=from_us(row.time_us),
        alias=row.alias,
        version=row.version,
        previous=row.previous,
        reason=row.reason,
        results=tuple(decode(row.results, type=list[GateResult])),
    )


def _not_found(connection: Connection, address: str, name: str, instead: str) -> NotFoundError:
    names: Sequence[str] = connection.execute(select(model_versions.c.name).distinct()).scalars().all()
    if name in names:
        return NotFoundError(f"cannot find {address}: {instead}", next_step=f"see store.models.versions({name!r})")
    nearest = difflib.get_close_matches(name, names, n=1)
    return NotFoundError(
        f"cannot find {address}: no model {name!r} is registered",
        next_step=f"did you mean {nearest[0]!r}?" if nearest else "register it: store.models.register(name, package)",
    )
