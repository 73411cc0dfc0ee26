"""A plain ONNX file as a handle: what its digest covers is all that the model computes with."""

import mmap
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shoal.base import (
    CorruptError,
    NotFoundError,
    UnsupportedError,
    digest_file,
    digest_json,
    open_handle,
    register_handle,
)
from shoal.model.reading import Package, open_package
from shoal.model.session import Session

_SUFFIX = ".onnx"
# How the format writes the name of a file with weights: the first field of an entry, "location", and then its value of
# fewer than 128 bytes. Read so, because the library for the format is not there where models only run.
_LOCATION = re.compile(rb"\x0a\x08location\x12(.)", re.DOTALL)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file, with the files beside it that hold its weights if it is one that keeps them apart.

    A handle of kind "onnx". Immutable by promise only: whoever opens it by its digest learns of a change.
    """

    path: Path

    kind = "onnx"

    @property
    def address(self) -> str:
        """The absolute path."""
        return str(self.path)

    @cached_property
    def digest(self) -> str:
        """The digest of the file, or of it and those beside it; reads all of them once."""
        beside = {name: digest_file(self.path.parent / name) for name in self._files_beside()}
        own = digest_file(self.path)
        return digest_json({"model": own, "beside": beside}) if beside else own

    def _files_beside(self) -> list[str]:
        if self.path.stat().st_size == 0:
            return []
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            spans = [(found.end(), found.end() + found[1][0]) for found in _LOCATION.finditer(content)]
            named = {content[start:stop].decode(errors="replace") for start, stop in spans}
        # Weights may hold such bytes by chance, but hardly the name of a file that is there.
        return sorted(name for name in named if "\0" not in name and (self.path.parent / name).is_file())


def find_model(model: Package | OnnxFile | str | Path) -> Package | OnnxFile:
    """Return the model at a path, a package's folder or an `.onnx` file; an opened one as it is.

    Raises:
        NotFoundError: nothing is there.
        UnsupportedError: the file is no `.onnx` file.
        PackageError: the folder is no package.
    """
    if isinstance(model, Package | OnnxFile):
        return model
    path = Path(model).expanduser().absolute()
    if path.is_dir():
        return open_package(path)
    if not path.exists():
        raise NotFoundError(
            f"cannot open the model {model}: there is no such file or folder",
            next_step="give a package's folder or an .onnx file",
        )
    if path.suffix != _SUFFIX:
        raise UnsupportedError(
            f"cannot open the model {model}: expected a package's folder or an {_SUFFIX} file",
            next_step="export the model to ONNX, or package it with shoal.model.package",
        )
    return OnnxFile(path)


def load_session(model: Package | OnnxFile) -> Session:
    """Load a model that was found, for one thread."""
    return Session(model if isinstance(model, Package) else model.path)


def open_onnx_file(address: str, digest: str) -> OnnxFile:
    """Open a file that travelled as a handle; the content must still have the digest."""
    file = OnnxFile(Path(address))
    if not file.path.is_file():
        raise NotFoundError(f"cannot open {address}: there is no such file", next_step="check the path")
    if file.digest != digest:
        raise CorruptError(
            f"{address} was changed: its digest is {file.digest}, expected {digest}",
            next_step="bring the file back, or begin anew with this one in another folder",
        )
    return file


def open_model(kind: str, address: str, digest: str) -> Package | OnnxFile:
    """Open a package or a file that travelled as a handle."""
    found = open_handle(kind, address, digest)
    assert isinstance(found, Package | OnnxFile)
    return found


register_handle(OnnxFile.kind, "shoal.model.onnx_file:open_onnx_file")
