"""Open a package: every file is checked before anything of it is used; neither torch nor a store is needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from shoal.base import CorruptError, check_file, digest_tree, register_handle
from shoal.model.manifest import (
    EXAMPLES_FILE,
    MANIFEST_FILE,
    ONNX_FILE,
    PREPARATION_FILE,
    PROFILE_FILE,
    Kind,
    Manifest,
    read_manifest,
)
from shoal.model.signature import Signature

if TYPE_CHECKING:
    from shoal.data import FittedPreparation, Profile


@dataclass(frozen=True, slots=True)
class Package:
    """An immutable folder that holds a model and all that is needed to run, judge and trace it.

    A handle of kind "package": `address` is the absolute path, `digest` that of the whole folder, by which the registry
    and gate reports name it. Safe to share between threads.
    """

    path: Path
    digest: str
    manifest: Manifest

    @property
    def kind(self) -> str:
        """The handle's kind; what the model computes is `model_kind`."""
        return "package"

    @property
    def address(self) -> str:
        """Where the folder lies, absolute."""
        return str(self.path)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def model_kind(self) -> Kind:
        """What the outputs mean: "classification" or "regression"."""
        return self.manifest.kind

    @property
    def signature(self) -> Signature:
        """Names, dtypes and shapes of inputs and outputs."""
        return self.manifest.signature

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures recorded with the model."""
        return self.manifest.metrics

    @property
    def onnx_path(self) -> Path:
        """The one file of the model itself; usable with any ONNX runtime."""
        return self.path / ONNX_FILE

    @property
    def profile(self) -> "Profile | None":
        """The training profile: input columns and score columns; None if the package was made without one."""
        if PROFILE_FILE not in self.manifest.files:
            return None
        from shoal.data import Profile  # data's readers are no weight that a service needs

        return Profile.from_bytes((self.path / PROFILE_FILE).read_bytes())

    @property
    def preparation(self) -> "FittedPreparation | None":
        """What the graph does to raw rows before the model itself; None if the model takes them as they are."""
        if PREPARATION_FILE not in self.manifest.files:
            return None
        from shoal.data import FittedPreparation  # as above: the graph holds all that a service needs of it

        return FittedPreparation.from_json((self.path / PREPARATION_FILE).read_bytes())

    def __repr__(self) -> str:
        return f"Package({self.address!r})"

    def examples(self) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """A few rows of inputs, and the outputs they must give."""
        from shoal.model.tables import read_arrays  # Arrow: 30 MB that a replica saves, which reads no examples

        rows = read_arrays(self.path / EXAMPLES_FILE)
        return (
            {spec.name: rows[spec.name] for spec in self.signature.inputs},
            {spec.name: rows[spec.name] for spec in self.signature.outputs},
        )


def open_package(path: str | Path, *, verify: bool = True, digest: str | None = None) -> Package:
    """Open the package in a folder.

    Args:
        path: the folder that `package` wrote, or the registry's copy of it.
        verify: read every file and compare its digest; leave it on unless the same process checked the folder before.
        digest: refuse the folder unless its content has this digest.

    Raises:
        PackageError: the folder is no package.
        CorruptError: a file was changed, is missing or does not belong; the message names it.
    """
    folder = Path(path).absolute()
    manifest = read_manifest(folder)
    if verify:
        _check_files(folder, manifest)
    found = digest_tree(folder)
    if digest is not None and found != digest:
        raise CorruptError(
            f"{folder} holds another package than was recorded: its digest is {found}, expected {digest}",
            next_step="restore the package from the registry, or use it under its own digest",
        )
    return Package(folder, found, manifest)


def open_package_handle(address: str, digest: str) -> Package:
    """Open a package that travelled as a handle; the content must still have the digest."""
    return open_package(address, digest=digest)


def _check_files(folder: Path, manifest: Manifest) -> None:
    present = {entry.relative_to(folder).as_posix() for entry in folder.rglob("*") if not entry.is_dir()}
    expected = {MANIFEST_FILE, *manifest.files}
    if missing := sorted(expected - present):
        raise CorruptError(
            f"cannot open {folder}: {missing[0]} is missing, found {sorted(present)}",
            next_step="restore the package from a copy or the registry",
        )
    if foreign := sorted(present - expected):
        raise CorruptError(
            f"cannot open {folder}: {foreign[0]} does not belong to the package",
            next_step=f"remove {folder / foreign[0]}; a package's folder is never written to",
        )
    # Only names that were found in the folder are opened: a forged manifest cannot point outside of it.
    for name, digest in sorted(manifest.files.items()):
        check_file(folder / name, digest)


register_handle("package", "shoal.model.reading:open_package_handle")
