"""Names people type for model versions: "fashion@3", "fashion@production", "fashion"."""

import re
from dataclasses import dataclass

from shoal.base import InputError

# A name becomes a folder of the prediction log and a part of URLs and prediction ids.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,127}")

PRODUCTION = "production"


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """A model's name with a version, an alias or neither."""

    name: str
    version: int | None = None
    alias: str | None = None


def parse_address(text: str) -> ModelAddress:
    """Read an address.

    Raises:
        InputError: the text has another form.

    >>> parse_address("fashion@3")
    ModelAddress(name='fashion', version=3, alias=None)
    """
    name, at, rest = text.partition("@")
    check_name(name)
    if not at:
        return ModelAddress(name)
    if rest.isascii() and rest.isdigit():
        return ModelAddress(name, version=int(rest))
    check_alias(rest)
    return ModelAddress(name, alias=rest)


def check_name(name: str) -> None:
    """Let a good model name pass, else InputError."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is no model name: expected letters, digits, dots, dashes and underscores, at most 128",
            next_step="choose a name such as 'fashion' or 'churn-2026'",
        )


def check_alias(alias: str) -> None:
    """Let a good alias pass, else InputError."""
    if not _ALIAS.fullmatch(alias):
        raise InputError(
            f"{alias!r} is neither an alias nor a version: expected a word or a number",
            next_step="write it as in 'fashion@production' or 'fashion@3'",
        )
