import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shoal.base import InputError, SourceError
from shoal.data import ImageFolderSource, Source
from shoal.data.sources import positions_of
from shoal.testing import SourceContract

Write = Callable[[str, bytes], Path]
Rows = Callable[[Source], list[dict[str, object]]]
Told = Callable[[Source], list[tuple[int, str, str]]]


def png(value: int, size: tuple[int, int] = (4, 3)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(write: Write, tmp_path: Path) -> Path:
    for index, name in enumerate(["cat/1.png", "cat/deep/2.PNG", "dog/3.png"]):
        write(f"pets/{name}", png(index))
    write("pets/dog/notes.txt", b"not an image")
    return tmp_path / "pets"


class TestImageFolderSource(SourceContract):
    @pytest.fixture
    def make_source(self, folder: Path) -> Callable[[], Source]:
        return lambda: ImageFolderSource(folder)


class TestImageFolderSourceDecoded(SourceContract):
    @pytest.fixture
    def make_source(self, folder: Path) -> Callable[[], Source]:
        return lambda: ImageFolderSource(folder, decode=True)


def test_labels_are_the_names_of_the_folders(folder: Path, rows_of: Rows) -> None:
    rows = rows_of(ImageFolderSource(folder))

    assert [(row["label"], row["label_name"], row["path"]) for row in rows] == [
        (0, "cat", "cat/1.png"),
        (0, "cat", "cat/deep/2.PNG"),
        (1, "dog", "dog/3.png"),
    ]
    assert rows[2]["image"] == png(2)


def test_the_order_of_labels_can_be_given(folder: Path, rows_of: Rows) -> None:
    assert [row["label"] for row in rows_of(ImageFolderSource(folder, labels=["dog", "cat"]))] == [1, 1, 0]
    with pytest.raises(InputError, match="lacks dog"):
        ImageFolderSource(folder, labels=["cat"])


def test_decoded_images_are_tensors_of_one_size(folder: Path) -> None:
    batch = next(ImageFolderSource(folder, decode=True).record_batches())
    grey = next(ImageFolderSource(folder, decode=True, mode="L").record_batches())

    assert batch.column("image").to_numpy_ndarray().shape == (3, 4, 3, 3)
    assert grey.column("image").to_numpy_ndarray()[:, 0, 0].tolist() == [0, 1, 2]


def test_an_image_of_another_size_or_damaged_is_named_or_put_aside(
    folder: Path, write: Write, rows_of: Rows, told: Told
) -> None:
    write("pets/cat/4.png", png(9, (5, 5)))
    write("pets/cat/5.png", png(9)[:40])
    write("pets/cat/6.png", b"")

    with pytest.raises(SourceError, match=r"4\.png: it has the size \[5, 5, 3\], expected \[4, 3, 3\]"):
        rows_of(ImageFolderSource(folder, decode=True))
    source = ImageFolderSource(folder, decode=True, on_bad="quarantine")

    assert [row["path"] for row in rows_of(source)] == ["cat/1.png", "cat/deep/2.PNG", "dog/3.png"]
    assert [(position, Path(path).name) for position, _, path in told(source)] == [
        (1, "4.png"),
        (2, "5.png"),
        (3, "6.png"),
    ]
    assert [positions_of(batch)[index] for batch in source.record_batches() for index in range(3)] == [0, 4, 5]


def test_images_without_folders_have_no_label(write: Write, tmp_path: Path, rows_of: Rows) -> None:
    write("plain/a.png", png(1))

    assert list(rows_of(ImageFolderSource(tmp_path / "plain"))[0]) == ["image", "path"]


def test_folders_that_tell_no_labels_or_hold_nothing_are_refused(write: Write, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no file with a suffix of"):
        ImageFolderSource(tmp_path / "absent")
    write("pets/a.png", png(1))
    with pytest.raises(SourceError, match="some lie in it and others in its folders"):
        ImageFolderSource(folder)


def test_a_file_reaches_no_parser_but_that_of_its_suffix(
    write: Write, tmp_path: Path, rows_of: Rows, told: Told
) -> None:
    write("pets/cat/1.png", png(1))
    out = io.BytesIO()
    Image.fromarray(np.zeros((4, 3, 3), np.uint8)).save(out, "TIFF")
    write("pets/cat/2.png", out.getvalue())

    with pytest.raises(SourceError, match=r"2\.png"):
        rows_of(ImageFolderSource(tmp_path / "pets", decode=True))
    source = ImageFolderSource(tmp_path / "pets", decode=True, on_bad="quarantine")
    assert len(rows_of(source)) == 1
    assert [position for position, _, _ in told(source)] == [1]


def test_an_image_of_too_many_pixels_is_a_bad_one(
    folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch, rows_of: Rows, told: Told
) -> None:
    write("pets/dog/4.png", png(1, (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)

    with pytest.raises(SourceError, match=r"4\.png.*decompression bomb"):
        rows_of(ImageFolderSource(folder, decode=True))
    source = ImageFolderSource(folder, decode=True, on_bad="quarantine")
    assert len(rows_of(source)) == 3
    assert [content for _, _, content in told(source)] == [str(folder / "dog/4.png")]
