"""Kept results of steps: small ones inside the store's table, large ones as artifacts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from shoal.base import CorruptError, ShoalError, codec_for, codec_named, digest_bytes
from shoal.flow.keys import Facts, StepKey, code_facts, what_changed
from shoal.store import MemoEntry, Store

INLINE_BYTES = 64 << 10
_NO_STEP = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A result in the form in which it is kept: `inline`, or as an artifact that is already there."""

    codec: str
    inline: bytes | None
    artifact: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One result to keep, under the step's name in its flow."""

    key: StepKey
    name: str
    encoded: Encoded
    seconds: float
    undeclared: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A kept result, decoded."""

    value: object
    seconds: float
    undeclared: tuple[str, ...]


class FlowMemo:
    """The kept results of one flow."""

    def __init__(self, store: Store, flow: str) -> None:
        self._store = store
        self._flow = flow
        self._known_codes: set[str] = set()
        self._newest: dict[str, MemoEntry] | None = None
        # Why a result that was found cannot be used: it is computed again.
        self.lost: dict[str, str] = {}

    def find(self, keys: Sequence[StepKey]) -> dict[str, Found]:
        """Return the usable results among these keys; a result that is gone or damaged is none, see `lost`."""
        codes = {_code_row(key) for key in keys} - self._known_codes
        entries = self._store.memo.get_many([*(key.digest for key in keys), *codes])
        self._known_codes |= codes & entries.keys()
        found = {}
        for key in keys:
            if entry := entries.get(key.digest):
                try:
                    found[key.digest] = self._decoded(entry)
                # Each floor's opener refuses in words of its own what is gone: making it again answers them all.
                except (ShoalError, OSError) as error:
                    self.lost[key.digest] = str(error)
        return found

    def encode(self, value: object) -> Encoded:
        """Write a result; a large one is durably in the artifacts when this returns. Safe from several threads.

        Raises:
            UnsupportedError: no codec keeps such a value.
        """
        codec = codec_for(value)
        sink = BytesIO()
        codec.encode(value, sink)
        data = sink.getvalue()
        if len(data) <= INLINE_BYTES:
            return Encoded(codec=codec.name, inline=data, artifact=None)
        return Encoded(codec=codec.name, inline=None, artifact=self._store.artifacts.put_bytes(data).digest)

    def keep(self, results: Sequence[Result], owner: str) -> None:
        """Record results, all or none, and give back the owner's claims of their keys."""
        entries = [
            self._entry(
                key=result.key.digest,
                step=result.name,
                encoded=result.encoded,
                explain={**result.key.facts, "undeclared": list(result.undeclared)},
                seconds=result.seconds,
            )
            for result in results
        ]
        codes = {_code_row(result.key): result.key.code for result in results}
        none = Encoded(codec="json", inline=b"null", artifact=None)
        entries += [
            self._entry(key=row, step=_NO_STEP, encoded=none, explain=code_facts(code), seconds=0.0)
            for row, code in codes.items()
            if row not in self._known_codes
        ]
        self._store.memo.put_many(entries, owner=owner)
        self._known_codes |= codes.keys()

    def why(self, key: StepKey, name: str) -> tuple[str, ...]:
        """Say why there is no usable result under this key, by the newest one of the same step."""
        if key.digest in self.lost:
            return (f"its result is lost: {self.lost[key.digest]}",)
        if self._newest is None:
            self._newest = self._store.memo.newest(self._flow)
        entry = self._newest.get(name)
        if entry is None:
            return ("it has no result yet",)
        old: Any = entry.explain
        row = self._store.memo.get(f"code:{old['code']}") if old["code"] != key.facts["code"] else None
        old_code: Any = row.explain if row else None
        words = what_changed(old, key.facts, old_code, code_facts(key.code))
        return words or ("its result is gone",)

    def _decoded(self, entry: MemoEntry) -> Found:
        data = entry.inline
        if entry.artifact is not None:
            path = self._store.artifacts.path(entry.artifact)
            data = path.read_bytes()
            if digest_bytes(data) != entry.artifact:
                raise CorruptError(f"{path} was changed or damaged", next_step=f"delete {path} and run the flow again")
        assert data is not None
        explain: Any = entry.explain
        value = codec_named(entry.codec).decode(BytesIO(data))
        return Found(value=value, seconds=entry.seconds, undeclared=tuple(explain.get("undeclared", ())))

    def _entry(self, *, key: str, step: str, encoded: Encoded, explain: Facts, seconds: float) -> MemoEntry:
        return MemoEntry(
            key=key,
            flow=self._flow,
            step=step,
            codec=encoded.codec,
            inline=encoded.inline,
            artifact=encoded.artifact,
            explain=dict(explain),
            created=datetime.now(UTC),
            seconds=seconds,
        )


# Beside the results under its own key: many results share one code, and its parts may be thousands.
def _code_row(key: StepKey) -> str:
    return f"code:{key.code.digest}"
