"""The key of a step's result: one digest over all that the result may depend on, and words for what changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shoal.base import File, ShoalError, digest_json
from shoal.flow.definition import Definition
from shoal.flow.handles import handles_in
from shoal.runtime import CodeDigest, code_digest, content_digest

# JSON of a known form, fresh or read back from the store.
Facts = Mapping[str, Any]

# Counts in every key: a change in how keys are made or results are kept starts anew instead of misreading.
_FORMAT = 1
# Enough to tell which of a step's parts changed; the whole digest is in the key.
_PART_DIGITS = 12


@dataclass(frozen=True, slots=True)
class StepKey:
    """A key and what it was made of; `facts` is kept with the result, for `what_changed`."""

    digest: str
    facts: Facts
    code: CodeDigest


class KeyMaker:
    """Makes keys for the steps of one run; digests each step's code once. For one thread."""

    def __init__(self) -> None:
        self._codes: dict[tuple[int, frozenset[type]], CodeDigest] = {}

    def key_of(self, step: Definition, arguments: Mapping[str, object]) -> StepKey:
        """Return the key of a call whose arguments are all known.

        Raises:
            InputError: an argument cannot be told from others of its kind.
        """
        counted = {name: value for name, value in arguments.items() if name not in step.ignore}
        types = frozenset(type(handle) for handle in handles_in(counted))
        code = self._codes.get((id(step), types))
        if code is None:
            ordered = sorted(types, key=lambda item: (item.__module__, item.__qualname__))
            code = self._codes[id(step), types] = code_digest(step.function, *ordered)
        inputs = {name: content_digest(value) for name, value in counted.items()}
        facts: Facts = {"code": code.digest, "inputs": dict(inputs), "version": step.version}
        return StepKey(digest_json({"format": _FORMAT, **facts}), facts, code)


def changed_files(arguments: Mapping[str, object], key: StepKey) -> tuple[str, ...]:
    """Return the arguments whose declared files do not have the content any more that they count with in the key."""
    digests = key.facts["inputs"]
    return tuple(
        name
        for name, value in arguments.items()
        if name in digests
        and any(isinstance(handle, File) for handle in handles_in(value))
        and not _has_digest(value, digests[name])
    )


def _has_digest(value: object, digest: str) -> bool:
    try:
        return content_digest(value) == digest
    # A file that is gone or cannot be read any more.
    except (ShoalError, OSError):
        return False


def code_facts(code: CodeDigest) -> Facts:
    """What is kept of a code digest, once for all results made by it."""
    parts = {name: digest.removeprefix("b3:")[:_PART_DIGITS] for name, digest in code.parts.items()}
    return {"parts": dict(parts), "packages": dict(code.packages)}


def what_changed(old: Facts, new: Facts, old_code: Facts | None, new_code: Facts) -> tuple[str, ...]:
    """Say in words how the facts of a kept result differ from those of a new key; empty where they do not.

    Args:
        old: the `facts` kept with the result.
        new: the `facts` of the new key.
        old_code: the `code_facts` of the code that made the result, or None where they are not kept.
        new_code: those of the new key's code.
    """
    words: list[str] = []
    if old["code"] != new["code"]:
        words += _code_changes(old_code, new_code) if old_code else ["its code changed"]
    words += [f"input {name} {change}" for name, change in _differences(old["inputs"], new["inputs"])]
    if old["version"] != new["version"]:
        words.append(f"version: {old['version']} -> {new['version']}")
    return tuple(words)


def _code_changes(old: Facts, new: Facts) -> list[str]:
    parts = [f"{name} {change}" for name, change in _differences(old["parts"], new["parts"])]
    packages = {*old["packages"], *new["packages"]}
    versions = [
        (name, old["packages"].get(name, "none"), new["packages"].get(name, "none")) for name in sorted(packages)
    ]
    return parts + [f"package {name}: {before} -> {after}" for name, before, after in versions if before != after]


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in sorted({*old, *new}):
        if name not in old:
            yield name, "is new"
        elif name not in new:
            yield name, "is gone"
        elif old[name] != new[name]:
            yield name, "changed"
