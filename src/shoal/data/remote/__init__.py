"""Datasets and sources in object stores and on web servers: fetched once per host, checked, retried, kept in bounds."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.data.remote.disk_cache import DiskCache as DiskCache
    from shoal.data.remote.disk_cache import Lease as Lease
    from shoal.data.remote.listing import list_url as list_url
    from shoal.data.remote.location import Location as Location
    from shoal.data.remote.location import is_url as is_url
    from shoal.data.remote.place import RemotePlace as RemotePlace
    from shoal.data.remote.prefetching import ShardPrefetcher as ShardPrefetcher
    from shoal.data.remote.reading import open_url as open_url
    from shoal.data.remote.retrying import RemoteSettings as RemoteSettings

__all__ = [
    "DiskCache",
    "Lease",
    "Location",
    "RemotePlace",
    "RemoteSettings",
    "ShardPrefetcher",
    "is_url",
    "list_url",
    "open_url",
]

__getattr__ = lazy_face(
    __name__,
    {
        "DiskCache": "disk_cache",
        "Lease": "disk_cache",
        "Location": "location",
        "RemotePlace": "place",
        "RemoteSettings": "retrying",
        "ShardPrefetcher": "prefetching",
        "is_url": "location",
        "list_url": "listing",
        "open_url": "reading",
    },
)
