"""What every floor stands on: errors, config, clock, ids, digests, codecs, atomic files, blobs, the segment log."""

from typing import TYPE_CHECKING

from shoal.base.lazy import lazy_face

if TYPE_CHECKING:
    from shoal.base import json as json
    from shoal.base.blobs import Blobs as Blobs
    from shoal.base.blobs import LocalBlobs as LocalBlobs
    from shoal.base.clock import Clock as Clock
    from shoal.base.clock import ManualClock as ManualClock
    from shoal.base.clock import SystemClock as SystemClock
    from shoal.base.codec import Codec as Codec
    from shoal.base.codec import codec_for as codec_for
    from shoal.base.codec import codec_named as codec_named
    from shoal.base.codec import register_codec as register_codec
    from shoal.base.config import Resolved as Resolved
    from shoal.base.config import Secret as Secret
    from shoal.base.config import Settings as Settings
    from shoal.base.config import environment as environment
    from shoal.base.config import find_home as find_home
    from shoal.base.config import launcher_variables as launcher_variables
    from shoal.base.config import load_settings as load_settings
    from shoal.base.config import secret as secret
    from shoal.base.config import traces_endpoint as traces_endpoint
    from shoal.base.decimals import powers_of_ten as powers_of_ten
    from shoal.base.digest import CHUNK_BYTES as CHUNK_BYTES
    from shoal.base.digest import Digester as Digester
    from shoal.base.digest import check_file as check_file
    from shoal.base.digest import digest_bytes as digest_bytes
    from shoal.base.digest import digest_chunks as digest_chunks
    from shoal.base.digest import digest_file as digest_file
    from shoal.base.digest import digest_json as digest_json
    from shoal.base.digest import digest_tree as digest_tree
    from shoal.base.digest import tree_files as tree_files
    from shoal.base.errors import ConfigError as ConfigError
    from shoal.base.errors import ConflictError as ConflictError
    from shoal.base.errors import CorruptError as CorruptError
    from shoal.base.errors import DataError as DataError
    from shoal.base.errors import DivergedError as DivergedError
    from shoal.base.errors import GateError as GateError
    from shoal.base.errors import InputError as InputError
    from shoal.base.errors import NotFoundError as NotFoundError
    from shoal.base.errors import PackageError as PackageError
    from shoal.base.errors import RemoteError as RemoteError
    from shoal.base.errors import SchemaError as SchemaError
    from shoal.base.errors import ServeError as ServeError
    from shoal.base.errors import ShardMissingError as ShardMissingError
    from shoal.base.errors import ShoalError as ShoalError
    from shoal.base.errors import SourceError as SourceError
    from shoal.base.errors import StepError as StepError
    from shoal.base.errors import StorageFullError as StorageFullError
    from shoal.base.errors import UnavailableError as UnavailableError
    from shoal.base.errors import UnsupportedError as UnsupportedError
    from shoal.base.errors import WorkerError as WorkerError
    from shoal.base.files import aside as aside
    from shoal.base.files import atomic_file as atomic_file
    from shoal.base.files import atomic_folder as atomic_folder
    from shoal.base.files import create_exclusive as create_exclusive
    from shoal.base.files import file_lock as file_lock
    from shoal.base.files import fsync_folder as fsync_folder
    from shoal.base.files import report_full_storage as report_full_storage
    from shoal.base.files import write_atomic as write_atomic
    from shoal.base.handle import File as File
    from shoal.base.handle import Handle as Handle
    from shoal.base.handle import is_handle as is_handle
    from shoal.base.handle import open_handle as open_handle
    from shoal.base.handle import register_handle as register_handle
    from shoal.base.ids import PredictionId as PredictionId
    from shoal.base.ids import new_id as new_id
    from shoal.base.ids import new_token as new_token
    from shoal.base.ids import parse_prediction_id as parse_prediction_id
    from shoal.base.json import Json as Json
    from shoal.base.json import decode as decode
    from shoal.base.json import encode as encode
    from shoal.base.json import pretty as pretty
    from shoal.base.log import SegmentLog as SegmentLog
    from shoal.base.log_order import MergedReader as MergedReader
    from shoal.base.log_order import OrderWriter as OrderWriter
    from shoal.base.log_order import open_log as open_log
    from shoal.base.log_order import part_folder as part_folder
    from shoal.base.log_reader import SegmentReader as SegmentReader
    from shoal.base.recorder import NullRecorder as NullRecorder
    from shoal.base.recorder import Recorder as Recorder
    from shoal.base.recorder import Ref as Ref
    from shoal.base.shared_memory import SharedBlock as SharedBlock

__all__ = [
    "CHUNK_BYTES",
    "Blobs",
    "Clock",
    "Codec",
    "ConfigError",
    "ConflictError",
    "CorruptError",
    "DataError",
    "Digester",
    "DivergedError",
    "File",
    "GateError",
    "Handle",
    "InputError",
    "Json",
    "LocalBlobs",
    "ManualClock",
    "MergedReader",
    "NotFoundError",
    "NullRecorder",
    "OrderWriter",
    "PackageError",
    "PredictionId",
    "Recorder",
    "Ref",
    "RemoteError",
    "Resolved",
    "SchemaError",
    "Secret",
    "SegmentLog",
    "SegmentReader",
    "ServeError",
    "Settings",
    "ShardMissingError",
    "SharedBlock",
    "ShoalError",
    "SourceError",
    "StepError",
    "StorageFullError",
    "SystemClock",
    "UnavailableError",
    "UnsupportedError",
    "WorkerError",
    "aside",
    "atomic_file",
    "atomic_folder",
    "check_file",
    "codec_for",
    "codec_named",
    "create_exclusive",
    "decode",
    "digest_bytes",
    "digest_chunks",
    "digest_file",
    "digest_json",
    "digest_tree",
    "encode",
    "environment",
    "file_lock",
    "find_home",
    "fsync_folder",
    "is_handle",
    "json",
    "launcher_variables",
    "lazy_face",
    "load_settings",
    "new_id",
    "new_token",
    "open_handle",
    "open_log",
    "parse_prediction_id",
    "part_folder",
    "powers_of_ten",
    "pretty",
    "register_codec",
    "register_handle",
    "report_full_storage",
    "secret",
    "traces_endpoint",
    "tree_files",
    "write_atomic",
]

__getattr__ = lazy_face(
    __name__,
    {
        "Blobs": "blobs",
        "LocalBlobs": "blobs",
        "Clock": "clock",
        "ManualClock": "clock",
        "SystemClock": "clock",
        "Codec": "codec",
        "codec_for": "codec",
        "codec_named": "codec",
        "register_codec": "codec",
        "Resolved": "config",
        "Secret": "config",
        "Settings": "config",
        "environment": "config",
        "find_home": "config",
        "launcher_variables": "config",
        "load_settings": "config",
        "secret": "config",
        "traces_endpoint": "config",
        "CHUNK_BYTES": "digest",
        "Digester": "digest",
        "check_file": "digest",
        "digest_bytes": "digest",
        "digest_chunks": "digest",
        "digest_file": "digest",
        "digest_json": "digest",
        "digest_tree": "digest",
        "tree_files": "digest",
        "ConfigError": "errors",
        "ConflictError": "errors",
        "CorruptError": "errors",
        "DataError": "errors",
        "DivergedError": "errors",
        "GateError": "errors",
        "InputError": "errors",
        "NotFoundError": "errors",
        "PackageError": "errors",
        "RemoteError": "errors",
        "SchemaError": "errors",
        "ServeError": "errors",
        "ShardMissingError": "errors",
        "ShoalError": "errors",
        "SourceError": "errors",
        "StepError": "errors",
        "StorageFullError": "errors",
        "UnavailableError": "errors",
        "UnsupportedError": "errors",
        "WorkerError": "errors",
        "aside": "files",
        "atomic_file": "files",
        "atomic_folder": "files",
        "create_exclusive": "files",
        "file_lock": "files",
        "fsync_folder": "files",
        "report_full_storage": "files",
        "write_atomic": "files",
        "File": "handle",
        "Handle": "handle",
        "is_handle": "handle",
        "open_handle": "handle",
        "register_handle": "handle",
        "PredictionId": "ids",
        "new_id": "ids",
        "new_token": "ids",
        "parse_prediction_id": "ids",
        "Json": "json",
        "json": "",
        "decode": "json",
        "encode": "json",
        "pretty": "json",
        "SegmentLog": "log",
        "MergedReader": "log_order",
        "OrderWriter": "log_order",
        "SegmentReader": "log_reader",
        "open_log": "log_order",
        "part_folder": "log_order",
        "powers_of_ten": "decimals",
        "NullRecorder": "recorder",
        "Recorder": "recorder",
        "Ref": "recorder",
        "SharedBlock": "shared_memory",
    },
)
