"""Where code runs: members as child processes, in gangs, pools and services."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.runtime.base import Backoff as Backoff
    from shoal.runtime.base import Event as Event
    from shoal.runtime.base import Exited as Exited
    from shoal.runtime.base import Gang as Gang
    from shoal.runtime.base import Member as Member
    from shoal.runtime.base import Pool as Pool
    from shoal.runtime.base import Report as Report
    from shoal.runtime.base import Resources as Resources
    from shoal.runtime.base import Runtime as Runtime
    from shoal.runtime.base import Service as Service
    from shoal.runtime.base import Started as Started
    from shoal.runtime.code import Code as Code
    from shoal.runtime.context import Context as Context
    from shoal.runtime.env.runtime import EnvRuntime as EnvRuntime
    from shoal.runtime.env.signals import AskedToStopError as AskedToStopError
    from shoal.runtime.frames import Message as Message
    from shoal.runtime.local import LocalRuntime as LocalRuntime
    from shoal.runtime.opening import open_runtime as open_runtime
    from shoal.runtime.reach import CodeDigest as CodeDigest
    from shoal.runtime.reach import code_digest as code_digest
    from shoal.runtime.reach import content_digest as content_digest

__all__ = [
    "AskedToStopError",
    "Backoff",
    "Code",
    "CodeDigest",
    "Context",
    "EnvRuntime",
    "Event",
    "Exited",
    "Gang",
    "LocalRuntime",
    "Member",
    "Message",
    "Pool",
    "Report",
    "Resources",
    "Runtime",
    "Service",
    "Started",
    "code_digest",
    "content_digest",
    "open_runtime",
]

__getattr__ = lazy_face(
    __name__,
    {
        "AskedToStopError": "env.signals",
        "Backoff": "base",
        "Code": "code",
        "CodeDigest": "reach",
        "Context": "context",
        "EnvRuntime": "env.runtime",
        "Event": "base",
        "Exited": "base",
        "Gang": "base",
        "LocalRuntime": "local",
        "Member": "base",
        "Message": "frames",
        "Pool": "base",
        "Report": "base",
        "Resources": "base",
        "Runtime": "base",
        "Service": "base",
        "Started": "base",
        "code_digest": "reach",
        "content_digest": "reach",
        "open_runtime": "opening",
    },
)
