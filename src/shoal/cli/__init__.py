"""The command line: `shoal <noun> <verb>`, thin over the same calls that Python users make."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.cli.entry import main as main

__all__ = ["main"]
__getattr__ = lazy_face(__name__, {"main": "entry"})
