"""A folder of images as a source: the name of the folder in which an image lies is its label."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shoal.base import Digester, InputError, ShoalError, SourceError
from shoal.data.sources.base import REJECTS, OnBad
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.positions import Positions, mark

# With the format that Pillow is to read: a file that says to be another never reaches another parser.
_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP",
    ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM",
}  # fmt: skip
IMAGE_SUFFIXES = tuple(_FORMATS)
_BATCH_BYTES = 16 << 20
_MAX_BATCH_ROWS = 1_024


class ImageFolderSource:
    """Rows {image, label, label_name, path} from a folder with one folder a label; can be read many times.

    Labels are numbered from 0 in the order of their names. `image` holds the bytes of the file as they are, or pixels
    uint8 [height, width, channels] with `decode`. Images that lie in the folder itself have no label: then none may.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        decode: bool = False,
        mode: str = "RGB",
        labels: Sequence[str] | None = None,
        on_bad: OnBad = "raise",
    ) -> None:
        """Find the images.

        Args:
            folder: holds a folder for each label, with images at any depth.
            decode: store pixels, for images that all have one size; needs the `images` extra.
            mode: what pixels are made, as Pillow names it: "RGB", "L" for one channel of grey.
            labels: names of the folders in the order of their numbers; None: sorted.
            on_bad: what happens to images that cannot be read, or have another size than the first.

        Raises:
            SourceError: there is no image, or some lie in folders and others do not.
        """
        self.on_bad: OnBad = on_bad
        self.folder = Path(folder).expanduser().absolute()
        self._mode = mode if decode else None
        self._paths = find_images(self.folder)
        tops = {path.relative_to(self.folder).parts[0] for path in self._paths if path.parent != self.folder}
        if tops and any(path.parent == self.folder for path in self._paths):
            raise SourceError(
                f"cannot tell the labels of the images in {self.folder}: some lie in it and others in its folders",
                next_step="put every image into the folder of its label",
            )
        self.labels = tuple(labels) if labels is not None else tuple(sorted(tops))
        if unknown := tops - set(self.labels):
            raise InputError(
                f"labels={list(self.labels)} lacks {', '.join(sorted(unknown))}, which {self.folder} has",
                next_step="name every folder",
            )
        self._digester = Digester()
        self._num_rows = 0
        self._shape: tuple[int, ...] | None = None
        self._bad: list[tuple[int, str, Path]] = []

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the images in the order of their paths.

        Raises:
            SourceError: an image cannot be decoded, or has another size than the first; the message names it.
        """
        self._digester, self._num_rows, self._shape, self._bad = Digester(), 0, None, []
        batch: list[tuple[int, Any]] = []
        num_bytes = 0
        # Pixels take many times the room of the file that holds them.
        max_bytes = _BATCH_BYTES if self._mode is None else _BATCH_BYTES // 16
        with ThreadPoolExecutor(thread_name_prefix="shoal-images") as pool:
            for index, path in enumerate(self._paths):
                size = path.stat().st_size
                if batch and (num_bytes + size > max_bytes or len(batch) >= _MAX_BATCH_ROWS):
                    yield from self._rows(batch)
                    batch, num_bytes = [], 0
                batch.append((index, pool.submit(_read, path, self._mode)))
                num_bytes += size
            yield from self._rows(batch)

    def facts(self) -> tuple[SourceFact, ...]:
        """Name the folder with a digest over the paths and bytes of all its images, in order."""
        return (SourceFact(path=str(self.folder), digest=self._digester.digest(), num_rows=self._num_rows),)

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the images that could not be read, met since the last call."""
        bad, self._bad = self._bad, []
        if bad:
            rows = [
                {"reason": why, "source": str(self.folder), "position": at, "content": str(path)}
                for at, why, path in bad
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=REJECTS)

    def _rows(self, batch: list[tuple[int, Any]]) -> Iterator[pa.RecordBatch]:
        good: list[tuple[int, Any]] = []
        for index, coming in batch:
            data, pixels, reason = coming.result()
            self._digester.update(f"{self._paths[index].relative_to(self.folder).as_posix()}\0{len(data)}\0".encode())
            self._digester.update(data)
            if pixels is not None and reason is None:
                self._shape = self._shape or pixels.shape
                if pixels.shape != self._shape:
                    reason = f"it has the size {list(pixels.shape)}, expected {list(self._shape)} as the first has"
            if reason is None:
                good.append((index, data if pixels is None else pixels))
            else:
                self._put_aside(index, reason)
        if good:
            self._num_rows += len(good)
            yield self._to_batch(good)

    def _put_aside(self, index: int, reason: str) -> None:
        path = self._paths[index]
        if self.on_bad == "raise":
            raise SourceError(
                f"cannot read image {path}: {reason}",
                next_step='replace the image, or ingest with on_bad="quarantine" to keep the others',
            )
        if self.on_bad == "quarantine":
            self._bad.append((index, reason, path))

    def _to_batch(self, good: list[tuple[int, Any]]) -> pa.RecordBatch:
        paths = [self._paths[index].relative_to(self.folder) for index, _ in good]
        images = [image for _, image in good]
        columns = {
            "image": pa.array(images, pa.binary())
            if self._mode is None
            else pa.FixedShapeTensorArray.from_numpy_ndarray(np.stack(images))
        }
        if self.labels:
            names = [path.parts[0] for path in paths]
            columns["label"] = pa.array([self.labels.index(name) for name in names], pa.int64())
            columns["label_name"] = pa.array(names, pa.string())
        columns["path"] = pa.array([path.as_posix() for path in paths], pa.string())
        breaks = tuple((place, index) for place, (index, _) in enumerate(good))
        is_whole = breaks[-1][1] - breaks[0][1] == len(good) - 1
        positions = Positions(str(self.folder), good[0][0], "file", () if is_whole else breaks)
        return mark(pa.RecordBatch.from_pydict(columns), positions)


def find_images(folder: Path) -> list[Path]:
    """Return the images below a folder, sorted by path.

    Raises:
        SourceError: there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise SourceError(
            f"cannot read images from {folder}: it holds no file with a suffix of {', '.join(IMAGE_SUFFIXES)}",
            next_step="check the path",
        )
    return found


def _read(path: Path, mode: str | None) -> tuple[bytes, Any, str | None]:
    data = path.read_bytes()
    if not data:
        return data, None, "it is empty"
    if mode is None:
        return data, None, None
    try:
        return data, _decoder()(data, mode, _FORMATS[path.suffix.lower()]), None
    except ShoalError:
        raise
    except Exception as error:  # noqa: BLE001  # the boundary to Pillow, which raises whatever its parsers meet
        return data, None, f"it cannot be decoded ({error})"


def _decoder() -> Callable[[bytes, str, str], Any]:
    try:
        from PIL import Image  # optional: only sources that decode need it
    except ImportError as error:
        raise InputError(
            "cannot decode images: Pillow is not installed", next_step="pip install shoal[images], or decode=False"
        ) from error
    import io

    def decode(data: bytes, mode: str, format: str) -> Any:  # noqa: ANN401 - an array of bytes
        with Image.open(io.BytesIO(data), formats=(format,)) as opened:
            return np.asarray(opened.convert(mode), np.uint8)

    return decode
