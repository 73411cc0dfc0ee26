"""Images and labels in pairs of IDX files as a source, and Fashion-MNIST as the pairs at hand."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import InputError, SourceError, digest_file, environment
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.idx import IdxFile

_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_FASHION_PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}

PathLike = str | os.PathLike[str]


class IdxSource:
    """Rows {image, label} from one or several pairs of IDX files, one pair after the other; can be read many times.

    Images keep the file's type and shape. Labels become int64, the type that loss functions take.
    """

    def __init__(
        self,
        images: PathLike | Sequence[PathLike],
        labels: PathLike | Sequence[PathLike],
        *,
        image_column: str = "image",
        label_column: str = "label",
        max_rows: int | None = None,
    ) -> None:
        """Name the files.

        Args:
            images: a file of images, or several.
            labels: as many files of labels, in the same order.
            image_column: name of the column of images.
            label_column: name of the column of labels.
            max_rows: stop after this many rows in all, for trying things out.
        """
        self.pairs = list(zip(_paths(images), _paths(labels), strict=False))
        if len(_paths(images)) != len(_paths(labels)):
            raise InputError(
                f"cannot pair {len(_paths(images))} files of images with {len(_paths(labels))} files of labels",
                next_step="give one file of labels for each file of images",
            )
        self._columns = (image_column, label_column)
        self._max_rows = max_rows

    @classmethod
    def fashion_mnist(
        cls,
        folder: PathLike | None = None,
        part: Literal["train", "test", "all"] = "train",
        *,
        max_rows: int | None = None,
    ) -> "IdxSource":
        """Find Fashion-MNIST on this machine: in `folder`, else SHOAL_FASHION_MNIST, else where Debian installs it.

        Args:
            folder: holds the four gzipped IDX files under their official names.
            part: 60,000 rows to train on, 10,000 to test with, or all 70,000.
            max_rows: stop after this many rows.

        Raises:
            SourceError: the files are not there; the message says where it looked.
        """
        if part not in _FASHION_PARTS:
            raise InputError(f"part={part!r} must be one of {', '.join(_FASHION_PARTS)}", next_step="choose one")
        prefixes = _FASHION_PARTS[part]
        places = [Path(folder)] if folder is not None else _fashion_places()
        for place in places:
            pairs = [(place / f"{p}-images-idx3-ubyte.gz", place / f"{p}-labels-idx1-ubyte.gz") for p in prefixes]
            if all(path.is_file() for pair in pairs for path in pair):
                return cls([pair[0] for pair in pairs], [pair[1] for pair in pairs], max_rows=max_rows)
        raise SourceError(
            f"cannot find the files of Fashion-MNIST ({', '.join(prefixes)}) in {', '.join(map(str, places))}",
            next_step="apt-get install dataset-fashion-mnist, or set SHOAL_FASHION_MNIST to a folder with the files",
        )

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield rows of images with their labels.

        Raises:
            SourceError: a file is damaged, or a pair's counts differ; the message names the files.
        """
        left = self._max_rows
        for images, labels in self.pairs:
            num_rows = _check_counts(images, labels)
            left, wanted = (None, num_rows) if left is None else (max(left - num_rows, 0), min(left, num_rows))
            yield from self._pair_batches(images, labels, wanted)

    def _pair_batches(self, images: Path, labels: Path, wanted: int) -> Iterator[pa.RecordBatch]:
        done = 0
        rows_per_block = IdxFile(images).header().rows_per_block
        # Strict: both files were counted before, so blocks that do not end together would be a defect here.
        blocks = zip(IdxFile(images).blocks(rows_per_block), IdxFile(labels).blocks(rows_per_block), strict=True)
        for image_block, label_block in blocks:
            if done >= wanted:
                return
            take = min(wanted - done, len(image_block))
            done += take
            columns = [_to_arrow(image_block[:take]), _to_arrow(label_block[:take].astype(np.int64))]
            yield pa.RecordBatch.from_arrays(columns, names=self._columns)

    def facts(self) -> tuple[SourceFact, ...]:
        """Name every file with its digest and the rows taken from it."""
        found, left = [], self._max_rows
        for pair in self.pairs:
            num_rows = IdxFile(pair[0]).header().num_rows
            left, taken = (None, num_rows) if left is None else (max(left - num_rows, 0), min(left, num_rows))
            found += [SourceFact(path=str(path), digest=digest_file(path), num_rows=taken) for path in pair if taken]
        return tuple(found)


def _paths(given: PathLike | Sequence[PathLike]) -> list[Path]:
    several = [given] if isinstance(given, str | os.PathLike) else list(given)
    return [Path(path).expanduser().absolute() for path in several]


def _fashion_places() -> list[Path]:
    set_by_user = environment("SHOAL_FASHION_MNIST")
    return [*([Path(set_by_user)] if set_by_user else []), _DEBIAN_FOLDER]


def _check_counts(images: Path, labels: Path) -> int:
    image_header, label_header = IdxFile(images).header(), IdxFile(labels).header()
    if image_header.num_rows != label_header.num_rows:
        raise SourceError(
            f"{images} holds {image_header.num_rows} images, and {labels} holds {label_header.num_rows} labels: "
            "expected as many of both",
            next_step="give the two files that belong together",
        )
    return image_header.num_rows


def _to_arrow(values: NDArray[Any]) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(values) if values.ndim > 1 else pa.array(values)
