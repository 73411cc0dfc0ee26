"""Where something remote lies: a URL, with the options that lead to its store as its query."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from shoal.base import ConfigError, InputError

_CLOUD = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss"})
SCHEMES = frozenset({*_CLOUD, "http", "https", "file"})
_SECRET = re.compile(r"secret|token|password|access_key|account_key|sas_key|credential", re.IGNORECASE)
_VERSION = re.compile(r"@(\d+)\Z")


def is_url(text: object) -> bool:
    """Whether this is a URL of a kind that shoal reads from: s3, gs, az and their like, http, https, file."""
    return isinstance(text, str) and "://" in text and text.partition("://")[0].lower() in SCHEMES


@dataclass(frozen=True, slots=True)
class Location:
    """One URL, taken apart: `url` up to the query, without a slash at the end, and `options` for its store.

    The options of an object store are those of obstore, such as `endpoint`, `region` or `skip_signature`. A web
    server's query is not ours: it stays a part of what is asked for. Two spellings of one place are equal.
    """

    url: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        query = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in self.options)
        return f"{self.url}?{query}" if query else self.url

    @property
    def scheme(self) -> str:
        """The kind of store, as in "s3"."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.url.rstrip("/").rpartition("/")[2]

    def parent(self) -> "Location":
        """Return the place that this one lies in.

        Raises:
            InputError: this is a whole bucket or server, which lies in nothing.
        """
        parent, _, name = self.url.rpartition("/")
        if not name or (parent.endswith("/") and self.scheme != "file"):
            raise InputError(
                f"cannot use {self.url}: it is a whole {'server' if self.scheme.startswith('http') else 'bucket'}, "
                "expected a folder in it",
                next_step=f"name one, as in {self.url.rstrip('/')}/clicks",
            )
        return Location(parent, self.options)

    def child(self, path: str) -> "Location":
        """Return a place below this one."""
        return Location(f"{self.url}/{path}" if path else self.url, self.options)


def parse_location(text: str, options: Mapping[str, object] | None = None) -> Location:
    """Take a URL apart; `options` are added to those in its query and win over them.

    Raises:
        InputError: it is no URL of a known kind, or its path has "." or ".." as a part.
        ConfigError: an option holds a secret: those are read from the environment alone, as URLs are stored and shown.
    """
    if not is_url(text):
        raise InputError(
            f"cannot use {text!r}: expected a URL that begins with one of {', '.join(sorted(SCHEMES))}",
            next_step='write it as in "s3://bucket/clicks"',
        )
    parts = urlsplit(text)
    if {".", ".."} & set(parts.path.split("/")):
        raise InputError(
            f'cannot use {text!r}: its path has a part "." or "..", and a store knows no such folders',
            next_step="write the path that is meant",
        )
    scheme = parts.scheme.lower()
    path = parts.path.rstrip("/") if scheme in _CLOUD or scheme == "file" else parts.path
    if scheme in _CLOUD:
        found = dict(parse_qsl(parts.query, keep_blank_values=True))
        url = f"{scheme}://{parts.netloc}{path}"
    else:
        found = {}
        url = f"{scheme}://{parts.netloc}{path.rstrip('/')}" + (f"?{parts.query}" if parts.query else "")
    found |= {name: _text(value) for name, value in (options or {}).items()}
    for name in found:
        if _SECRET.search(name):
            raise ConfigError(
                f"the option {name!r} of {url} is a secret, and addresses are stored and shown",
                next_step="set it in the environment, as in AWS_SECRET_ACCESS_KEY, or in the store's own settings",
            )
    return Location(url, tuple(sorted(found.items())))


def split_address(text: str) -> tuple[str, int | None, str]:
    """Return (URL, version or None, what follows "#") of a dataset's address.

    The version stands behind the path, as in "s3://bucket/clicks@3?region=eu-west-1", or at the very end.
    """
    whole, _, fragment = text.partition("#")
    path, mark, query = whole.partition("?")
    for head, tail in ((path, f"{mark}{query}"), (whole, "")):
        # A name in the host part, as in "https://user@10/", is not a version: the path begins after it.
        if (found := _VERSION.search(head)) and "/" in head[: found.start()].partition("://")[2]:
            return head[: found.start()] + tail, int(found[1]), fragment
    return whole, None, fragment


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
