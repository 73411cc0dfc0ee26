"""A text file that carries the digest of its own bytes as its last line, so that no flipped byte passes unseen."""

import re
from collections.abc import Mapping

from shoal.base import CorruptError, digest_bytes, pretty

_SEAL = re.compile(rb',\n  "seal": "(b3:[0-9a-f]{64})"\n}\n\Z')
_LENGTH = len(',\n  "seal": "b3:') + 64 + len('"\n}\n')


def sealed(fields: Mapping[str, object]) -> bytes:
    """Return the fields as JSON for people, with a last field "seal": the digest of all bytes before it."""
    body = pretty(fields).encode().removesuffix(b"\n}")
    return body + f',\n  "seal": "{digest_bytes(body)}"\n}}\n'.encode()


def check_seal(data: bytes, name: object) -> None:
    """Return when no byte differs from what `sealed` returned.

    Raises:
        CorruptError: some byte does, or the text was never sealed; the message says `name`.
    """
    # The whole ending is matched byte for byte: whitespace there is part of what is sealed.
    match = _SEAL.search(data, max(len(data) - _LENGTH, 0))
    found = digest_bytes(data[: match.start()]) if match else None
    if match is None or match[1].decode() != found:
        raise CorruptError(
            f"{name} was changed: its {len(data)} bytes do not have the seal that they end with",
            next_step="shoal.data.repair(path) brings it back from the mirror or a copy; or open another version",
        )
