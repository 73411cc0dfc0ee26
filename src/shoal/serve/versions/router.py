"""Which version answers a request: shares of traffic by the hash of the request's id."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import xxhash

from shoal.base import ConfigError

_SPAN = 2.0**64
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Shares:
    """How a model's traffic is divided over its versions.

    A request id always goes to the same version while the shares stay, and when a share grows, the ids that had that
    version keep it. Versions are in the order given: the main one first, then the canary.
    """

    by_version: Mapping[str, float]
    versions: tuple[str, ...]
    ends: tuple[float, ...]

    @classmethod
    def of(cls, shares: Mapping[str, float]) -> "Shares":
        """From version -> share.

        Raises:
            ConfigError: a share is not in (0, 1], or they do not sum to 1.
        """
        total = sum(shares.values())
        if not shares or abs(total - 1) > _TOLERANCE or min(shares.values()) <= 0:
            raise ConfigError(
                f"shares {dict(shares)} must each be > 0 and sum to 1, found {total:g}",
                next_step="give production the rest of what the canary takes",
            )
        return cls(dict(shares), tuple(shares), tuple(accumulate(shares.values())))

    @property
    def main(self) -> str:
        """The version that a canary is compared with."""
        return self.versions[0]

    def version_for(self, request_id: str) -> str:
        """The version that answers the request with this id."""
        if len(self.versions) == 1:
            return self.versions[0]
        # A good hash of any id is even over the range, also for ids that count up.
        place = xxhash.xxh3_64_intdigest(request_id.encode("utf-8", "surrogatepass")) / _SPAN
        for version, end in zip(self.versions, self.ends, strict=True):
            if place < end:
                return version
        return self.versions[-1]
