"""Where checkpoints lie: a folder, or an object store. Each appears whole, under its name, or not at all."""

import re
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shoal.base import (
    ConfigError,
    NotFoundError,
    ShoalError,
    atomic_folder,
    new_token,
    report_full_storage,
)
from shoal.data.remote import RemotePlace, is_url
from shoal.train.saving.retention import Found

MANIFEST_FILE = "checkpoint.json"
# A step's number. Whatever else lies beside them is nobody's business.
_NAME = re.compile(r"\d{10}\Z")
_ASIDE = re.compile(r"\.\d{10}\.[^.]+\.tmp\Z")
# One call writes at most 2 GiB; other threads run while it does.
_WRITE_BYTES = 1 << 30


class Place(Protocol):
    """Keeps checkpoints, each a few files under one name. One writer at a time; any number of readers beside it."""

    def __str__(self) -> str:
        """The place's address: an absolute path or a URL."""
        ...

    def address(self, name: str) -> str:
        """Return one checkpoint's address, whether it is there or not."""
        ...

    def found(self) -> list[Found]:
        """Return what is here, in the order of names; empty where there is no such place yet."""
        ...

    def has(self, name: str) -> bool:
        """Whether anything bears this name, complete or not."""
        ...

    def read(self, name: str, file: str) -> bytearray:
        """Return a file's bytes; NotFoundError when there is none."""
        ...

    def publish(self, name: str, files: Mapping[str, memoryview], manifest: bytes) -> None:
        """Keep a checkpoint, durably, in place of what bore the name; a reader sees all of it or nothing.

        The manifest becomes the file `checkpoint.json`. After a failure or a kill nothing new is to be seen.

        Raises:
            StorageFullError: no room.
            RemoteError: the store could not be reached, or refused.
        """
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove checkpoints; those that are not there count as removed."""
        ...

    def tidy(self) -> None:
        """Remove what a killed writer left half-done."""
        ...

    def probe(self) -> None:
        """Return when something can be written here; the error says why not."""
        ...


class FolderPlace:
    """Checkpoints as folders in a folder; several machines may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def __str__(self) -> str:
        return str(self.folder)

    def address(self, name: str) -> str:
        """Return the path of a checkpoint's folder."""
        return str(self.folder / name)

    def found(self) -> list[Found]:
        """Return the folders whose name is a step; a missing manifest makes one incomplete."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in sorted(self.folder.iterdir()):
            if _NAME.match(path.name) and path.is_dir():
                manifest = path / MANIFEST_FILE
                is_complete = manifest.is_file()
                found.append(Found(path.name, (manifest if is_complete else path).stat().st_mtime, is_complete))
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a folder."""
        return (self.folder / name).is_dir()

    def read(self, name: str, file: str) -> bytearray:
        """Return a file's bytes."""
        path = self.folder / name / file
        try:
            with path.open("rb", buffering=0) as source:
                data = bytearray(path.stat().st_size)
                start = 0
                while taken := source.readinto(memoryview(data)[start:]):
                    start += taken
                return data[:start] if start < len(data) else data
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(f"cannot read {path}: there is no such file", next_step="check the path") from error

    def publish(self, name: str, files: Mapping[str, memoryview], manifest: bytes) -> None:
        """Write aside, make durable, rename."""
        target = self.folder / name
        with report_full_storage(target):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Only what is damaged is ever replaced.
            self.remove([name])
            with atomic_folder(target) as aside:
                for file, content in {**files, MANIFEST_FILE: memoryview(manifest)}.items():
                    _write(aside / file, content)

    def remove(self, names: Iterable[str]) -> None:
        """Rename, then remove: one killed in between leaves nothing that looks like a checkpoint."""
        for name in names:
            aside = self.folder / f".{name}.{new_token(8)}.tmp"
            try:
                (self.folder / name).rename(aside)
            except FileNotFoundError:
                continue
            shutil.rmtree(aside, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what stands aside."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if _ASIDE.match(path.name):
                    shutil.rmtree(path, ignore_errors=True)

    def probe(self) -> None:
        """Make the folder, and a file in it for a moment."""
        try:
            with report_full_storage(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                probe = self.folder / f".{new_token(8)}.probe"
                probe.write_bytes(b"x")
                probe.unlink()
        except OSError as error:
            if isinstance(error, ShoalError):
                raise
            raise _unwritable(self, error) from error


class StorePlace:
    """Checkpoints as objects below a URL: there is one as soon as its manifest is there, which is written last."""

    def __init__(self, url: str) -> None:
        if url.partition("://")[0].lower() in ("http", "https"):
            raise ConfigError(
                f"cannot keep checkpoints at {url}: a web server takes no files",
                next_step="give a folder, or a store such as s3://bucket/runs",
            )
        self._remote = RemotePlace(url)

    def __str__(self) -> str:
        return str(self._remote)

    def address(self, name: str) -> str:
        """Return the URL of a checkpoint."""
        return self._remote.address(name)

    def found(self) -> list[Found]:
        """Return the checkpoints; one without a manifest is incomplete."""
        written: dict[str, dict[str, float]] = {}
        for facts in self._remote.facts():
            name, _, file = facts.key.rpartition("/")
            if _NAME.match(name):
                written.setdefault(name, {})[file] = (
                    0.0 if facts.modified is None else datetime.fromisoformat(facts.modified).timestamp()
                )
        return [Found(name, max(files.values()), MANIFEST_FILE in files) for name, files in sorted(written.items())]

    def has(self, name: str) -> bool:
        """Whether there is an object below the name."""
        return any(facts.key.startswith(f"{name}/") for facts in self._remote.facts())

    def read(self, name: str, file: str) -> bytearray:
        """Return a file's bytes."""
        return bytearray(self._remote.read(f"{name}/{file}"))

    def publish(self, name: str, files: Mapping[str, memoryview], manifest: bytes) -> None:
        """Upload the files, then the manifest."""
        # First of all the old manifest goes: it must never stand beside new files.
        self._remote.remove([f"{name}/{MANIFEST_FILE}"])
        for file, content in files.items():
            self._remote.write(f"{name}/{file}", content)
        self._remote.write(f"{name}/{MANIFEST_FILE}", manifest)

    def remove(self, names: Iterable[str]) -> None:
        """Remove the manifests first: without its manifest a checkpoint is none."""
        chosen = set(names)
        keys = [facts.key for facts in self._remote.facts() if facts.key.rpartition("/")[0] in chosen]
        self._remote.remove([key for key in keys if key.endswith(f"/{MANIFEST_FILE}")])
        self._remote.remove([key for key in keys if not key.endswith(f"/{MANIFEST_FILE}")])

    def tidy(self) -> None:
        """Remove what has no manifest."""
        self.remove([found.name for found in self.found() if not found.is_complete])

    def probe(self) -> None:
        """Write an object, and remove it."""
        probe = f".{new_token(8)}.probe"
        self._remote.write(probe, b"x")
        self._remote.remove([probe])


def open_place(address: str | Path) -> Place:
    """Return the place at a path or URL; nothing is asked of it yet."""
    text = str(address)
    if is_url(text) and not text.startswith("file://"):
        return StorePlace(text)
    return FolderPlace(Path(text.removeprefix("file://")))


def split_address(address: str | Path) -> tuple[Place, str]:
    """Return the place that one checkpoint lies in, and its name there."""
    whole, mark, query = str(address).partition("?") if is_url(str(address)) else (str(address), "", "")
    parent, _, name = whole.rstrip("/").rpartition("/")
    if not mark and "://" not in whole:
        path = Path(whole).absolute()
        return FolderPlace(path.parent), path.name
    return open_place(f"{parent}{mark}{query}"), name


def place_of_run(checkpoints_to: str | Path | None, *, run_folder: Path, run_id: str) -> str:
    """Return the address of the place of a run's checkpoints.

    Args:
        checkpoints_to: a folder or URL that many runs may share, as each has a folder of its own there, named by its
            id; None for `checkpoints` in the run's own folder.
        run_folder: where the store keeps the run's files.
        run_id: the run's id.
    """
    if checkpoints_to is None:
        return str((run_folder / "checkpoints").absolute())
    text = str(checkpoints_to)
    if not is_url(text):
        return str(Path(text).expanduser().absolute() / run_id)
    whole, mark, query = text.partition("?")
    return f"{whole.rstrip('/')}/{run_id}{mark}{query}"


def _write(path: Path, content: memoryview) -> None:
    with path.open("wb", buffering=0) as sink:
        start = 0
        while start < len(content):
            start += sink.write(content[start : start + _WRITE_BYTES])


def _unwritable(place: Place, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot keep checkpoints at {place}: {error.strerror or error}",
        next_step="give a folder that every worker can write to as checkpoints_to",
    )
