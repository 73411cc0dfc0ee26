"""What a subset is, in words: a recipe names the rows so that any process finds them again, and an address carries it.

An address reads as `clicks@3#0-8000000000000000#sample(by="label",fraction=0.1,seed=0)`: dataset, version, range of
hashes, and then one recipe after the other, each applied to what the one before has left.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from shoal.base import InputError
from shoal.data.sampling.parameters import check_parameters

_VERSION = re.compile(r"@([0-9]{1,18})(?=#|\Z)")
_RANGE = re.compile(r"#([0-9a-f]{1,17})-([0-9a-f]{1,17})(?=#|\Z)")
_KIND = re.compile(r"#([a-z]+)\(")
_NAME = re.compile(r"([a-z_]+)=")
_HASH_SPAN = 2**64
# Twice what a condition may have; Python itself gives up somewhere near a thousand.
_MAX_DEPTH = 64


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One step from a dataset to a subset of it; `arguments` are JSON values by name, in the order of the names.

    Equal recipes have equal text, whoever wrote them, and the same recipe on the same rows gives the same subset.
    """

    kind: str
    arguments: str

    @classmethod
    def of(cls, kind: str, **parameters: object) -> "Recipe":
        """Return the recipe with these parameters; those that are None are left out."""
        given = sorted((name, value) for name, value in parameters.items() if value is not None)
        return cls(kind, ",".join(f"{name}={_as_json(value)}" for name, value in given))

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments as plain JSON values by name."""
        found, end = _arguments(self.arguments + ")", 0)
        if end != len(self.arguments) + 1:
            raise _unreadable(str(self))
        return found

    def __str__(self) -> str:
        return f"{self.kind}({self.arguments})"


def address_text(path: object, version: int, hash_range: tuple[int, int], recipes: tuple[Recipe, ...]) -> str:
    """Return the address of rows: the whole version, a range of its hashes, and what the recipes leave of them."""
    # Hexadecimal, as in the manifest: the end of the last range is 2**64, one digit more than any hash has.
    ranged = "" if hash_range == (0, _HASH_SPAN) else f"#{hash_range[0]:x}-{hash_range[1]:x}"
    return f"{path}@{version}{ranged}" + "".join(f"#{recipe}" for recipe in recipes)


def parse_address(text: str) -> tuple[str, int, tuple[int, int], tuple[Recipe, ...]] | None:
    """Return (path, version, hash range, recipes) of an address; None when the text names no version.

    Raises:
        InputError: what follows the version is neither a range of hashes nor a recipe with its parameters.
    """
    # From the left, as a recipe may hold an "@3" in its quotes, and a folder's name too: the first that reads is meant.
    wrong: InputError | None = None
    for match in _VERSION.finditer(text):
        if match.start() == 0:
            continue
        try:
            hash_range, recipes = _parse_parts(text, match.end())
        except InputError as error:
            wrong = wrong or error
            continue
        return text[: match.start()], int(match[1]), hash_range, recipes
    if wrong is not None:
        raise wrong
    return None


def _parse_parts(text: str, at: int) -> tuple[tuple[int, int], tuple[Recipe, ...]]:
    hash_range = (0, _HASH_SPAN)
    if match := _RANGE.match(text, at):
        hash_range, at = (int(match[1], 16), int(match[2], 16)), match.end()
        if not hash_range[0] <= hash_range[1] <= _HASH_SPAN:
            raise InputError(
                f"{text} names no range of hashes", next_step="copy the address of a split as it was printed"
            )
    recipes = []
    while at < len(text):
        match = _KIND.match(text, at)
        if match is None:
            raise _unreadable(text)
        parameters, at = _arguments(text, match.end())
        check_parameters(match[1], parameters)
        recipes.append(Recipe.of(match[1], **parameters))
    return hash_range, tuple(recipes)


def _arguments(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Read name=value pairs up to the closing bracket, and return them with the place behind it."""
    found: dict[str, Any] = {}
    while not text.startswith(")", at):
        match = _NAME.match(text, at)
        if match is None or match[1] in found:
            raise _unreadable(text)
        try:
            found[match[1]], at = _decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError) as error:
            raise _unreadable(text) from error
        if _is_too_deep(found[match[1]]):
            raise _unreadable(text)
        if text.startswith(",", at):
            at += 1
        elif not text.startswith(")", at):
            raise _unreadable(text)
    return found, at + 1


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            each
            for whole in level
            if isinstance(whole, list | dict)
            for each in (whole.values() if isinstance(whole, dict) else whole)
        ]
        if not level:
            return False
    return True


def _as_json(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
        # Half a character can be neither digested nor printed.
        return text.encode().decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"cannot write {value!r:.200} into a subset's address: {error}",
            next_step="use text, numbers, booleans, instants or lists of them",
        ) from error


def _unreadable(text: str) -> InputError:
    return InputError(
        f"cannot read the subset in {text!r:.300}: expected parts such as #0-80 or #sample(fraction=0.1,seed=0)",
        next_step="copy the address of the subset as it was printed",
    )
