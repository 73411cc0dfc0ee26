"""The registry: versions, aliases that move only through gates, and a way back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sqlalchemy import delete, insert, select, text

from shoal.base import Clock, ConflictError, CorruptError, InputError, NotFoundError, Ref, encode
from shoal.store.addresses import PRODUCTION, ModelAddress, check_alias, check_name, parse_address
from shoal.store.alias_history import replay
from shoal.store.artifacts import SqlArtifacts
from shoal.store.base import PackageLike
from shoal.store.changes import tell
from shoal.store.database import Database
from shoal.store.gate_report import GateReport, check_report
from shoal.store.lineage import write_edge
from shoal.store.model_rows import (
    VersionRow,
    find_row,
    model_version,
    newest_version,
    read_aliases,
    read_moves,
    write_move,
)
from shoal.store.records import AliasMove, ModelVersion
from shoal.store.run_ids import check_run
from shoal.store.schema import canaries, model_versions
from shoal.store.times import to_us

_SET_CANARY = text(
    "INSERT INTO canaries (name, version, share, results, time_us) "
    "VALUES (:name, :version, :share, :results, :time_us) ON CONFLICT (name) DO UPDATE SET "
    "version = excluded.version, share = excluded.share, results = excluded.results, time_us = excluded.time_us"
)


class SqlModels:
    """The interface `Models` on SQL tables; each call is one transaction."""

    def __init__(self, database: Database, *, artifacts: SqlArtifacts, clock: Clock) -> None:
        self._database = database
        self._artifacts = artifacts
        self._clock = clock

    def register(
        self,
        name: str,
        package: Path | PackageLike,
        *,
        run: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> ModelVersion:
        """Copy the package into the artifacts under the name's next version."""
        check_name(name)
        # Outside the transaction: copying a large package must not keep other writers waiting.
        digest = self._keep(package)
        now = self._clock.now()
        with self._database.write(durable=True) as connection:
            row: dict[str, object] = {"name": name, "digest": digest, "created_us": to_us(now)}
            row["run"] = None if run is None else check_run(connection, run)
            row["metrics"] = encode({key: float(value) for key, value in (metrics or {}).items()}).decode()
            same = (model_versions.c.name == name, model_versions.c.digest == digest)
            known = connection.execute(select(model_versions).where(*same)).first()
            if known is not None:
                # What was said first stays: a retry after a lost answer must not rewrite metrics or the run.
                return self._version(known)
            row["version"] = newest_version(connection, name) + 1
            created = connection.execute(insert(model_versions).returning(model_versions), row).one()
            version = self._version(created)
            if run is not None:
                write_edge(connection, Ref("run", run, ""), Ref.of(version), "produced", to_us(now))
            write_edge(
                connection, Ref("package", str(version.path), digest), Ref.of(version), "registered_as", to_us(now)
            )
            tell(connection, "model.registered", name, {"version": version.version, "digest": digest}, now)
        return version

    def get(self, address: str) -> ModelVersion:
        """The version that the address means."""
        parsed = parse_address(address)
        with self._database.read() as connection:
            return self._version(find_row(connection, parsed))

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, oldest first."""
        query = select(model_versions).where(model_versions.c.name == name).order_by(model_versions.c.version)
        with self._database.read() as connection:
            find_row(connection, ModelAddress(name))
            return [self._version(row) for row in connection.execute(query)]

    def names(self) -> list[str]:
        """All models, sorted."""
        with self._database.read() as connection:
            names = connection.execute(select(model_versions.c.name).distinct().order_by(model_versions.c.name))
            return list(names.scalars())

    def aliases(self, name: str) -> dict[str, int]:
        """The version that each alias means now."""
        with self._database.read() as connection:
            find_row(connection, ModelAddress(name))
            return read_aliases(connection, name)

    def promote(
        self, name: str, version: int | ModelVersion, alias: str = PRODUCTION, *, results: GateReport
    ) -> ModelVersion:
        """Let the alias mean this version, if its gates allow it."""
        check_alias(alias)
        with self._database.write(durable=True) as connection:
            # Read again under the write lock: the caller's value may be old, or from another store.
            chosen = self._version(find_row(connection, _address(name, version)))
            check_report(results, address=chosen.address, digest=chosen.digest)
            move = AliasMove(
                time=self._clock.now(),
                alias=alias,
                version=chosen.version,
                previous=read_aliases(connection, name).get(alias),
                reason="promote",
                results=results.results,
            )
            write_move(connection, name, move)
        return chosen

    def canary(self, name: str, version: int | ModelVersion, share: float, *, results: GateReport) -> None:
        """Send this share of production's traffic to the version, if its gates allow it."""
        if not 0 < share < 1:
            raise InputError(
                f"share={share} must be between 0 and 1",
                next_step="pass 0.2 for 20%; to send everything, promote the version",
            )
        now = self._clock.now()
        with self._database.write(durable=True) as connection:
            chosen = self._version(find_row(connection, _address(name, version)))
            check_report(results, address=chosen.address, digest=chosen.digest)
            production = read_aliases(connection, name).get(PRODUCTION)
            # A share of nothing, or between a version and itself, would leave the router to guess.
            if production is None or production == chosen.version:
                found = "there is no production version" if production is None else "it is the production version"
                raise ConflictError(
                    f"cannot make {chosen.address} the canary: {found}, expected another one to share with",
                    next_step="promote a version first, then try the next one as its canary",
                )
            row = {"name": name, "version": chosen.version, "share": share, "time_us": to_us(now)}
            connection.execute(_SET_CANARY, {**row, "results": encode(results.results).decode()})
            tell(connection, "canary.set", name, {"version": chosen.version, "share": share}, now)

    def end_canary(self, name: str) -> None:
        """Send all traffic to production again."""
        with self._database.write(durable=True) as connection:
            find_row(connection, ModelAddress(name))
            ended = delete(canaries).where(canaries.c.name == name).returning(canaries.c.version)
            version = connection.execute(ended).scalar()
            if version is not None:
                tell(connection, "canary.ended", name, {"version": version}, self._clock.now())

    def canary_of(self, name: str) -> tuple[ModelVersion, float] | None:
        """The canary and its share."""
        with self._database.read() as connection:
            found = connection.execute(select(canaries).where(canaries.c.name == name)).first()
            if found is None:
                return None
            return self._version(find_row(connection, ModelAddress(name, version=found.version))), found.share

    def rollback(self, name: str, alias: str = PRODUCTION) -> ModelVersion:
        """Back to the version that held the alias before."""
        return self._step(name, alias, "rollback")

    def forward(self, name: str, alias: str = PRODUCTION) -> ModelVersion:
        """Undo the last rollback."""
        return self._step(name, alias, "forward")

    def history(self, name: str) -> list[AliasMove]:
        """Every move of every alias, oldest first."""
        with self._database.read() as connection:
            find_row(connection, ModelAddress(name))
            return read_moves(connection, name)

    def _step(self, name: str, alias: str, reason: Literal["rollback", "forward"]) -> ModelVersion:
        with self._database.write(durable=True) as connection:
            find_row(connection, ModelAddress(name, alias=alias))
            # No gates here: the version passed them when it took the alias, and a way back must never be blocked.
            state = replay(read_moves(connection, name, alias))
            way = state.past if reason == "rollback" else state.future
            if not way:
                wanted = "held it before" if reason == "rollback" else "was rolled back from"
                raise NotFoundError(
                    f"cannot {reason} {name}@{alias}: it means version {state.current}, and no other {wanted}",
                    next_step=f"promote the version you want; the moves so far: store.models.history({name!r})",
                )
            chosen = self._version(find_row(connection, ModelAddress(name, version=way[-1])))
            move = AliasMove(
                time=self._clock.now(),
                alias=alias,
                version=chosen.version,
                previous=state.current,
                reason=reason,
                results=(),
            )
            write_move(connection, name, move)
        return chosen

    def _keep(self, package: Path | PackageLike) -> str:
        path = package if isinstance(package, Path) else Path(package.path)
        put = self._artifacts.put_folder if path.is_dir() else self._artifacts.put_file
        digest = put(path).digest
        if not isinstance(package, Path) and digest != package.digest:
            raise CorruptError(
                f"cannot register {path}: its content is {digest}, it was opened as {package.digest}",
                next_step="package the model again, or open the changed package on purpose and judge it again",
            )
        return digest

    def _version(self, row: VersionRow) -> ModelVersion:
        return model_version(row, self._artifacts.path)


def _address(name: str, version: int | ModelVersion) -> ModelAddress:
    if isinstance(version, int):
        return ModelAddress(name, version=version)
    if version.name != name:
        raise InputError(
            f"cannot use {version.address} as a version of {name!r}", next_step=f"pass {version.name!r} as the name"
        )
    return ModelAddress(name, version=version.version)
