"""What a store holds below a prefix or under a pattern."""

import re
from collections.abc import Mapping

from shoal.base import NotFoundError
from shoal.data.remote.location import Location, parse_location
from shoal.data.remote.objects import ObjectStore
from shoal.data.remote.retrying import Retrier

_PATTERN = re.compile(r"[*?\[]")
_TOKEN = re.compile(r"\*\*/|\*+|\?|\[[^\]]+\]|.", re.DOTALL)
_SPECIAL = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_QUERY = re.compile(r"\?\w+=")


def list_url(
    prefix_or_glob: str, *, options: Mapping[str, object] | None = None, retrier: Retrier | None = None
) -> list[str]:
    """Return the URLs of all objects below a prefix, or under a pattern, sorted; each opens with `open_url`.

    In a pattern `*` and `?` stand for anything inside one part of the path, and `**` for any number of parts. A
    prefix means whole parts: "s3://bucket/day=1" does not list "day=10".

    Raises:
        NotFoundError: nothing is there.
        UnsupportedError: a web server, which cannot be listed.
    """
    base, pattern = _base(prefix_or_glob, options)
    store = ObjectStore(base, retrier)
    found = [facts.key for facts in store.names()]
    if pattern:
        fits = re.compile(_regex(pattern))
        found = [key for key in found if fits.fullmatch(key)]
    if not found:
        raise NotFoundError(f"cannot find anything at {prefix_or_glob}", next_step="check the URL and the pattern")
    return [str(base.child(key)) for key in found]


def _base(text: str, options: Mapping[str, object] | None) -> tuple[Location, str]:
    # A "?" may stand for a character or begin the options; only options have a name and "=" behind it.
    query = _QUERY.search(text)
    path, options_text = (text[: query.start()], text[query.start() :]) if query else (text, "")
    wildcard = _PATTERN.search(path)
    folder = path[: wildcard.start()].rpartition("/")[0] if wildcard else path
    return parse_location(folder + options_text, options), path[len(folder) + 1 :] if wildcard else ""


def _regex(pattern: str) -> str:
    return "".join(_SPECIAL.get(token) or _class_or_text(token) for token in _TOKEN.findall(pattern))


def _class_or_text(token: str) -> str:
    if len(token) == 1:
        return re.escape(token)
    negated = token.startswith("[!")
    return ("[^/" if negated else "[") + token[2 if negated else 1 : -1].replace("\\", "\\\\") + "]"
