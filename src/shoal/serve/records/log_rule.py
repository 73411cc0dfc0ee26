"""The rule of the prediction log: which requests are logged, and which of their fields are not."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import xxhash

from shoal.base import ConfigError
from shoal.serve.wire.interface import Interface

_SPAN = 2**64
# Not the seed by which versions are chosen: all of a canary's requests would else be logged, or none.
_SEED = 1
_MARKS = frozenset("*?[")
# What stands for a field's missing values goes with it.
_MASK = "_mask"


@dataclass(frozen=True, slots=True)
class LogRule:
    """Which requests are logged, and which of their fields are not.

    Attributes:
        sample: the share of requests, 0 < sample <= 1. A request's id decides, so that the same request is always or
            never logged, by whichever front; of ids that differ, the share is even over all versions.
        drop: names of inputs and outputs that are never logged, or patterns such as "pixels*".
    """

    sample: float = 1.0
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 1:
            raise ConfigError(
                f"log_sample={self.sample} must be > 0 and <= 1", next_step="leave it out to log every request"
            )
        if "" in self.drop:
            raise ConfigError("log_drop holds an empty name", next_step="give the names of inputs and outputs")

    def takes(self, request_id: str) -> bool:
        """Whether the request with this id is logged."""
        place = xxhash.xxh3_64_intdigest(request_id.encode("utf-8", "surrogatepass"), _SEED)
        return place < self.sample * _SPAN

    def dropped(self, model: str, interface: Interface) -> frozenset[str]:
        """The fields of a model that are not logged.

        A field and what says which of its values are missing (`age` and `age_mask`) are logged together or not at all.

        Raises:
            ConfigError: a name is no field of this model: a rule that is written wrong would log what it should not. A
                pattern may match nothing.
        """
        names = [field.name for field in (*interface.inputs, *interface.outputs)]
        for name in self.drop:
            if name not in names and not _MARKS & set(name):
                raise ConfigError(
                    f"cannot drop {name!r} from the log of {model}: its inputs and outputs are {', '.join(names)}",
                    next_step=f"correct the name; where only some models have it, write a pattern such as '{name}*'",
                )
        found = {name for name in names if any(fnmatchcase(name, pattern) for pattern in self.drop)}
        return frozenset(found | _partners(found, names))


def _partners(found: Iterable[str], names: list[str]) -> set[str]:
    wanted = {f"{name}{_MASK}" for name in found} | {name.removesuffix(_MASK) for name in found}
    return wanted.intersection(names)
