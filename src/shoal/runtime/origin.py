"""Where a module's code comes from: the project itself, Python's standard library, or an installed distribution."""

import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import sysconfig
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlparse

from shoal.base import digest_file, digest_json, new_token

_LIBRARY_FOLDERS = frozenset({"site-packages", "dist-packages"})
# Shorter than any interpreter takes before it imports the user's code, longer than a tick of the kernel's clock.
_INTERPRETER_START_NS = 15_000_000
_STANDARD_FOLDER = Path(sysconfig.get_path("stdlib")).resolve()


@cache
def loaded_ns() -> int:
    """When this process began to load code: what is written later may be newer than the code that it runs."""
    now_ns = time.time_ns()
    try:
        after_name = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        ticks_ns = int(after_name[19]) * 10**9 // os.sysconf("SC_CLK_TCK")
        return now_ns - (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks_ns) + _INTERPRETER_START_NS
    except (OSError, ValueError, IndexError, AttributeError):
        return now_ns  # no Linux: the first call, which is when this module is loaded


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution; `version` is the digest of its Python files where it is installed editable."""

    name: str
    version: str
    changed_since_import: bool = False


@dataclass(frozen=True, slots=True)
class _Editable:
    name: str
    root: Path
    top_levels: frozenset[str]


@cache
def is_standard(module: str) -> bool:
    """Whether the module of this name is Python's own, and not a file of the project that took its name."""
    if top_level(module) not in sys.stdlib_module_names:
        return False
    file = _file_of(module)
    return file is None or (file.is_relative_to(_STANDARD_FOLDER) and not _LIBRARY_FOLDERS & set(file.parts))


def top_level(module: str) -> str:
    """The first part of a dotted name: what a distribution installs."""
    return module.partition(".")[0]


@cache
def packages_of(module: str) -> tuple[Package, ...]:
    """Return the distributions that installed `module`; none for code that simply lies on the import path.

    Several distributions may share a namespace such as `google`: all of them are returned. The answer is kept for the
    life of the process, as is the code that was imported.
    """
    if is_standard(module) or top_level(module) == "__main__":
        return ()
    file = _file_of(module)
    if file is None:
        return ()
    for editable in _editables():
        if top_level(module) in editable.top_levels and file.is_relative_to(editable.root):
            return (_content_of(editable.name, top_level(module)),)
    return _installed(top_level(module)) if _LIBRARY_FOLDERS & set(file.parts) else ()


def label_of(module: str) -> str:
    """The name under which a module's functions are listed: a script is called as it would be if it were imported."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else module


def _file_of(module: str) -> Path | None:
    loaded = sys.modules.get(module)
    name = getattr(loaded, "__file__", None)
    if name:
        return Path(name).resolve()
    try:
        spec = importlib.util.find_spec(top_level(module))
    except (ImportError, ValueError):
        return None
    return _place(spec) if spec else None


def _place(spec: importlib.machinery.ModuleSpec) -> Path | None:
    if spec.has_location and spec.origin:
        return Path(spec.origin).resolve()
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0]).resolve() if folders else None


def _installed(top: str) -> tuple[Package, ...]:
    import importlib.metadata

    try:
        # Nearly always the distribution bears the package's name; the full table costs a tenth of a second.
        return (Package(_normalised(top), importlib.metadata.version(top)),)
    except importlib.metadata.PackageNotFoundError:
        names = sorted(set(_distributions().get(top, ())))
    if not names:
        return (_content_of(top, top),)
    return tuple(Package(_normalised(name), importlib.metadata.version(name)) for name in names)


@cache
def _distributions() -> dict[str, list[str]]:
    import importlib.metadata

    return dict(importlib.metadata.packages_distributions())


@cache
def _editables() -> tuple[_Editable, ...]:
    import importlib.metadata  # 30 ms, which most imports of shoal.flow never need

    found = []
    for distribution in importlib.metadata.distributions():
        facts = json.loads(distribution.read_text("direct_url.json") or "{}")
        if facts.get("dir_info", {}).get("editable"):
            name = _normalised(distribution.metadata["Name"])
            listed = (distribution.read_text("top_level.txt") or name.replace("-", "_")).split()
            root = Path(unquote(urlparse(facts["url"]).path)).resolve()
            found.append(_Editable(name, root, frozenset(listed)))
    return tuple(found)


def _content_of(name: str, top: str) -> Package:
    spec = importlib.util.find_spec(top)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    if not files and spec is not None and spec.origin and Path(spec.origin).is_file():
        files = [Path(spec.origin)]
    digest = digest_json({_relative(path, folders): digest_file(path) for path in files})
    if any(path.stat().st_mtime_ns > loaded_ns() for path in files):
        # The loaded code may be older than its files: a digest of this process alone promises nothing false.
        return Package(name, f"{digest}+{new_token(8)}", changed_since_import=True)
    return Package(name, digest)


def _relative(path: Path, folders: list[Path]) -> str:
    return next((path.relative_to(folder).as_posix() for folder in folders if path.is_relative_to(folder)), path.name)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


loaded_ns()
