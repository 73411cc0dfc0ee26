"""How lower floors tell what happens without knowing who writes it down."""

from dataclasses import dataclass
from typing import Protocol

from shoal.base.handle import Handle
from shoal.base.json import Json


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """The name of something in the lineage: a handle's three words, without the thing itself."""

    kind: str
    address: str
    digest: str

    @classmethod
    def of(cls, handle: Handle) -> "Ref":
        """Name what a handle stands for."""
        return cls(handle.kind, handle.address, handle.digest)


class Recorder(Protocol):
    """Takes note of what happens. Calls return at once and never fail the work that reports; order is kept."""

    def metric(self, name: str, value: float, step: int) -> None:
        """Note one point of a curve."""
        ...

    def event(self, kind: str, **fields: Json) -> None:
        """Note that something happened once."""
        ...

    def lineage(self, source: Ref, target: Ref, relation: str) -> None:
        """Note that `target` came from `source`; noting it twice is the same as once."""
        ...


class NullRecorder:
    """A recorder that forgets: the default wherever nobody listens."""

    def metric(self, name: str, value: float, step: int) -> None:
        """Forget one point of a curve."""

    def event(self, kind: str, **fields: Json) -> None:
        """Forget an event."""

    def lineage(self, source: Ref, target: Ref, relation: str) -> None:
        """Forget an edge."""
