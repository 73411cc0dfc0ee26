"""`package.json`: what a package is, where it came from, and the digest of every file in it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from shoal.base import (
    CorruptError,
    InputError,
    PackageError,
    Ref,
    UnsupportedError,
    decode,
    digest_json,
    encode,
    pretty,
)
from shoal.model.signature import Signature

FORMAT = 1
MANIFEST_FILE, ONNX_FILE, PROFILE_FILE, EXAMPLES_FILE = "package.json", "model.onnx", "profile.arrow", "examples.arrow"
PREPARATION_FILE = "preparation.json"
# The output of every classifier: probabilities [batch, classes].
SCORES = "scores"

Kind = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of `package.json`; nothing in it depends on when or where the package was written.

    Attributes:
        kind: "classification" gives `scores`, one probability per class; "regression" gives numbers as they are.
        metrics: figures of the model by name, such as {"accuracy": 0.91}.
        run: the id of the run that trained it.
        code: the digest of the code that the run executed.
        dataset: the dataset version it was trained on.
        parent: the digest of the package that this one was derived from.
        files: the digest of every other file of the folder, by name.
        preparation: the digest of the preparation that the graph begins with; None where there is none.
        classes: what each column of `scores` stands for, where the model was asked; None where it cannot tell.
    """

    name: str
    kind: Kind
    signature: Signature
    metrics: dict[str, float]
    run: str | None
    code: str | None
    dataset: Ref | None
    parent: str | None
    files: dict[str, str]
    preparation: str | None = None
    classes: tuple[int | str, ...] | None = None
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """The file's content: JSON for people, closed by a digest of everything above it."""
        fields = decode(encode(asdict(self)))
        if self.classes is None:
            # As before there were any: the same model gives the same package.
            del fields["classes"]
        return (pretty({**fields, "digest": digest_json(fields)}) + "\n").encode()


def read_manifest(folder: Path) -> Manifest:
    """Read and check the `package.json` of a package's folder.

    Raises:
        PackageError: the folder holds none, or one that cannot be understood.
        CorruptError: it was changed since it was written.
        UnsupportedError: it is of a later format.
    """
    path = folder / MANIFEST_FILE
    try:
        fields: dict[str, Any] = decode(path.read_bytes(), dict[str, Any])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PackageError(
            f"cannot open {folder} as a package: there is no {MANIFEST_FILE} in it",
            next_step="give the folder that shoal.model.package wrote",
        ) from error
    except InputError as error:
        raise _damaged(path, error.message) from error
    if fields.get("format") != FORMAT:
        raise UnsupportedError(
            f"cannot open {path}: its format is {fields.get('format')!r}, this shoal reads {FORMAT}",
            next_step="open it with a newer shoal, or package the model again",
        )
    recorded = fields.pop("digest", None)
    if recorded != (found := digest_json(fields)):
        raise _damaged(path, f"its own digest is {recorded}, its content's {found}")
    try:
        return decode(encode(fields), Manifest)
    except InputError as error:
        raise PackageError(
            f"cannot understand {path}: {error.message}", next_step="package the model again with this shoal"
        ) from error


def _damaged(path: Path, found: str) -> CorruptError:
    return CorruptError(
        f"{path} was changed or damaged: {found}",
        next_step="restore the package from a copy or the registry, or package the model again",
    )
