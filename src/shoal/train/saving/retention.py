"""Which checkpoints are kept: a pure decision over what lies in a place."""

from collections.abc import Sequence
from dataclasses import dataclass

from shoal.base import ConfigError


@dataclass(frozen=True, slots=True)
class Found:
    """Something in a place that bears a checkpoint's name; `written_s` is the time it was finished, Unix seconds.

    Whether it `is_complete` says that no file is missing, not that every byte is right.
    """

    name: str
    written_s: float
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many checkpoints are kept, and for how long: whichever ends first.

    Attributes:
        keep: how many at most; at least one. With two there is one to fall back on when the newest is damaged.
        keep_s: those older are removed, in seconds; None for no limit.
    """

    keep: int = 2
    keep_s: float | None = None

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ConfigError(f"keep_checkpoints={self.keep} must be >= 1", next_step="leave it out to keep 2")
        if self.keep_s is not None and not self.keep_s > 0:
            raise ConfigError(
                f"keep_checkpoints_s={self.keep_s} must be > 0", next_step="leave it out to keep them for any time"
            )

    def removals(self, found: Sequence[Found], *, newest: str, now_s: float) -> list[str]:
        """Return the names to remove, right after the checkpoint `newest` was written whole; never itself.

        Later ones go: they are of a future that was given up, as a run went on from an earlier step. So do those that
        lack a file.
        """
        before = sorted((each for each in found if each.name < newest and each.is_complete), key=lambda each: each.name)
        kept = {newest} | {
            each.name
            for each in before[len(before) - min(self.keep - 1, len(before)) :]
            if self.keep_s is None or now_s - each.written_s <= self.keep_s
        }
        return [each.name for each in found if each.name not in kept]
