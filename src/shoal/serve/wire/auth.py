"""Who may ask: the check of the API key."""

import hmac
from collections.abc import Mapping

from shoal.serve.wire.refusal import RefusedError

_SCHEME = b"bearer "


class KeyCheck:
    """Lets requests through that carry the key; all of them when there is no key.

    Comparing takes the same time wherever a wrong key differs, so that it cannot be guessed byte by byte.
    """

    def __init__(self, key: str | None) -> None:
        self._expected = None if key is None else key.encode()

    @property
    def is_needed(self) -> bool:
        """Whether there is a key."""
        return self._expected is not None

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise the 401 unless `Authorization: Bearer KEY` or `X-API-Key: KEY` is right."""
        if self._expected is None:
            return
        given = headers.get(b"x-api-key")
        authorization = headers.get(b"authorization", b"")
        if given is None and authorization[: len(_SCHEME)].lower() == _SCHEME:
            given = authorization[len(_SCHEME) :]
        if given is not None and hmac.compare_digest(given.strip(), self._expected):
            return
        found = "no key" if given is None else "a wrong key"
        raise RefusedError(
            401,
            f"this service asks for an API key, found {found}",
            field="Authorization",
            found=found,
            expected="Authorization: Bearer KEY, or X-API-Key: KEY",
            next_step="send the key that the service was started with",
        )
