"""Contracts: one suite of tests per interface, which every backend subclasses and passes, ours and a plugin's.

They need pytest. A backend's test file subclasses the suite and supplies the fixture that the suite names.
"""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.testing.blobs import BlobsContract as BlobsContract
    from shoal.testing.codec import CodecContract as CodecContract
    from shoal.testing.faults import FaultContract as FaultContract
    from shoal.testing.gang import GangContract as GangContract
    from shoal.testing.group import GroupContract as GroupContract
    from shoal.testing.runtime import RuntimeContract as RuntimeContract
    from shoal.testing.source import SourceContract as SourceContract
    from shoal.testing.store import StoreContract as StoreContract
    from shoal.testing.strategy import StrategyContract as StrategyContract

__all__ = [
    "BlobsContract",
    "CodecContract",
    "FaultContract",
    "GangContract",
    "GroupContract",
    "RuntimeContract",
    "SourceContract",
    "StoreContract",
    "StrategyContract",
]

__getattr__ = lazy_face(
    __name__,
    {
        "BlobsContract": "blobs",
        "CodecContract": "codec",
        "FaultContract": "faults",
        "GangContract": "gang",
        "GroupContract": "group",
        "RuntimeContract": "runtime",
        "SourceContract": "source",
        "StoreContract": "store",
        "StrategyContract": "strategy",
    },
)
