"""The versions that the front knows, and which of them answers a request."""

import itertools
from dataclasses import dataclass, field

from shoal.serve.links.channel import Key, Loaded
from shoal.serve.links.messages import ModelPlan
from shoal.serve.versions.cost import BatchCost
from shoal.serve.versions.router import Shares
from shoal.serve.wire.interface import Interface
from shoal.serve.wire.protocol import Protocol
from shoal.serve.wire.refusal import RefusedError, shorten

_serials = itertools.count(1)


@dataclass(slots=True)
class ServedVersion:
    """One version that some replica has loaded.

    Attributes:
        key: its name.
        protocol: reads requests and writes answers.
        cost: what batches take.
        model_kind: what the outputs mean.
        path: the file or folder that it was loaded from.
        is_deterministic: whether equal inputs give equal outputs, so that answers may be kept.
        serial: no other version of this process has it, also not one of the same name that was loaded later.
        has_one_form: whether any two requests can be stacked, because only rows vary.
    """

    key: Key
    protocol: Protocol
    cost: BatchCost
    model_kind: str
    path: str = ""
    is_deterministic: bool = field(init=False)
    serial: int = field(init=False, default_factory=lambda: next(_serials))
    has_one_form: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_deterministic = self.interface.deterministic
        self.has_one_form = all(None not in each.shape[1:] for each in self.interface.inputs)

    @property
    def interface(self) -> Interface:
        """What it takes and gives."""
        return self.protocol.interface


@dataclass(slots=True)
class Models:
    """What is routed to, by name and version; used by the event loop alone.

    Attributes:
        plan: the newest plan.
        generation: its number.
        default: what a path that names no model means; "" for the first of the plan.
        shares: how each model's traffic is divided now; behind the plan while a version loads.
        versions: everything that was loaded and is still wanted.
    """

    plan: dict[str, ModelPlan] = field(default_factory=dict)
    generation: int = 0
    default: str = ""
    shares: dict[str, Shares] = field(default_factory=dict)
    versions: dict[Key, ServedVersion] = field(default_factory=dict)
    _protocols: dict[Interface, Protocol] = field(default_factory=dict)

    def add(self, loaded: Loaded) -> ServedVersion:
        """Hear that a replica has loaded a version; the first one brings what is known of it."""
        key = Key(loaded.model, loaded.version)
        served = self.versions.get(key)
        # Another path under the same name is another model: what was learnt of the one before must not count for it.
        if served is None or served.path != loaded.path:
            # Shared by equal interfaces: `is` then tells at once whether a body must be read again for a canary.
            protocol = self._protocols.setdefault(loaded.interface, Protocol(loaded.interface))
            served = self.versions[key] = ServedVersion(
                key, protocol, BatchCost(loaded.timings), loaded.model_kind, loaded.path
            )
        return served

    def forget(self, kept: set[Key]) -> None:
        """Drop all versions but these."""
        for key in self.versions.keys() - kept:
            del self.versions[key]

    def find(self, model: str, version: str | None) -> ServedVersion:
        """The version that a path names, or the model's main one.

        Raises:
            RefusedError: 404 for an unknown model or version, 503 for one that is planned and not loaded yet.
        """
        shares = self.shares.get(model)
        if shares is None and model not in self.plan:
            raise _unknown("model", model, sorted(self.plan))
        wanted = version if version is not None else shares.main if shares is not None else None
        if wanted is not None:
            served = self.versions.get(Key(model, wanted))
            if served is not None:
                return served
            if wanted not in self.plan.get(model, ModelPlan({}, {})).versions:
                raise _unknown(f"version of {model}", wanted, self.versions_of(model))
        raise RefusedError(
            503,
            f"{model} is still being loaded",
            next_step="send it again in a moment; GET /status tells what is being waited for",
            retry_after_s=1.0,
        )

    def choose(self, first: ServedVersion, request_id: str) -> ServedVersion:
        """The version that a request goes to which named none, by its id; `first` is what `find` gave for it."""
        version = self.shares[first.key.model].version_for(request_id)
        if version == first.key.version:
            return first
        return self.versions.get(Key(first.key.model, version), first)

    def versions_of(self, model: str) -> list[str]:
        """The loaded versions of a model."""
        return sorted(key.version for key in self.versions if key.model == model)


def _unknown(what: str, found: str, expected: list[str]) -> RefusedError:
    return RefusedError(
        404,
        f"there is no {what} {shorten(found)!r} here, only {', '.join(expected) or 'none'}",
        field="path",
        found=shorten(found),
        expected=f"one of {', '.join(expected)}" if expected else "none is served yet",
        next_step="ask POST /v2/repository/index what is served",
    )
