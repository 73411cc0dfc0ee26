"""What a source's rows are held to, and what happens to those that fall short."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from shoal.base import InputError
from shoal.data.quality.checks import Check
from shoal.data.quality.conversion import declared_schema
from shoal.data.quality.unique import Unique
from shoal.data.schema import Schema
from shoal.data.sources.base import OnBad


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Declared columns, checks of rows, keys that must not come twice, and the fate of a bad row.

    With a declared `schema`, other columns of the source are left out.
    """

    schema: Schema | None = None
    checks: tuple[Check, ...] = ()
    unique: tuple[Unique, ...] = ()
    on_bad: OnBad = "raise"

    @property
    def is_empty(self) -> bool:
        """Whether every row that can be stored is good."""
        return self.schema is None and not self.checks and not self.unique

    @staticmethod
    def of(schema: Schema | Mapping[str, str] | None, checks: Sequence[Check | Unique], on_bad: OnBad) -> "Rules":
        """Return the rules that a user's words mean.

        Raises:
            SchemaError: a type is unknown.
            InputError: `on_bad` is none of the three, or a check is none.
        """
        if on_bad not in get_args(OnBad):
            raise InputError(f"on_bad={on_bad!r} must be 'raise', 'quarantine' or 'drop'", next_step="choose one")
        for check in checks:
            if not (isinstance(check, Unique) or hasattr(check, "violations")):
                raise InputError(
                    f"{check!r} is no check", next_step="use those of shoal.data.quality; Where takes your own function"
                )
        return Rules(
            schema=declared_schema(schema),
            checks=tuple(check for check in checks if not isinstance(check, Unique)),
            unique=tuple(check for check in checks if isinstance(check, Unique)),
            on_bad=on_bad,
        )
