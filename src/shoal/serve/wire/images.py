"""JPEG and PNG pictures as the input of a model: decoded by Pillow, exactly as sent or not at all.

Only the picture's mode is fitted (grey or colour), and its size when the client asks for it. What would reach the model
as something else than the client sees is refused: transparency, 16 bits, several frames. As in shoal's sources of
images, a camera's note on which side is up is not applied.
"""

import functools
import importlib.util
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from shoal.serve.wire.plain import PlainForm
from shoal.serve.wire.plain_json import SIGNATURES
from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field
from shoal.serve.wire.tensors import Array

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# The order of a row's dimensions, with H for height, W for width and C for channels.
Layout: TypeAlias = Literal["HW", "HWC", "CHW"]
PICTURES = ("image/jpeg", "image/png")
# As colour about 100 MB while it is decoded: more than any camera of a phone gives by default.
MOST_PIXELS = 32_000_000
_MODE_NAMES = {"L": "grey", "RGB": "colour"}
# Of the first chunk, which comes first in every PNG.
_PNG_DEPTH_AT, _DEEP = 24, 16
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_OPAQUE = 255


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input of a model that takes pictures.

    Attributes:
        name: of the input.
        height: of a picture, pixels.
        width: of a picture, pixels.
        mode: Pillow's word for the channels: "L" for grey, "RGB" for colour.
        layout: the order of a row's dimensions.
        is_float: whether pixels go in as float32; then the request says what number white is.
    """

    name: str
    height: int
    width: int
    mode: Literal["L", "RGB"]
    layout: Layout
    is_float: bool

    def row(self, pixels: Array, white: int | None) -> Array:
        """One row of the input, with the dimension of rows, from pixels uint8 [H, W] or [H, W, 3]."""
        if self.layout == "HWC":
            pixels = pixels.reshape(self.height, self.width, -1)
        elif self.layout == "CHW":
            pixels = np.moveaxis(pixels.reshape(self.height, self.width, -1), -1, 0)
        if self.is_float:
            pixels = pixels.astype(np.float32)
            if white == 1:
                pixels = pixels / np.float32(_OPAQUE)
        return np.ascontiguousarray(pixels[np.newaxis])


@dataclass(frozen=True, slots=True)
class PictureWish:
    """What a request says about its picture in the query: whether to fit its size, and what number white is."""

    resize: bool = False
    white: int | None = None


def image_input(form: PlainForm) -> ImageInput | None:
    """The input that takes a picture, of a model with exactly one input; None for another model."""
    if not form.has_rows or len(form.fields) != 1 or len(form.interface.inputs) != 1:
        return None
    field = form.fields[0]
    if field.tensor.datatype not in ("UINT8", "FP32"):
        return None
    is_float = field.tensor.datatype == "FP32"
    match field.shape:
        case (int(height), int(width)):
            return ImageInput(field.name, height, width, "L", "HW", is_float)
        case (int(height), int(width), 1 | 3 as channels):
            return ImageInput(field.name, height, width, "L" if channels == 1 else "RGB", "HWC", is_float)
        case (1 | 3 as channels, int(height), int(width)):
            return ImageInput(field.name, height, width, "L" if channels == 1 else "RGB", "CHW", is_float)
    return None


def read_wish(query: Mapping[str, str], wanted: ImageInput) -> PictureWish:
    """Read the query of a request that brings a picture.

    Raises:
        RefusedError: 400, it says something unknown, or not what number white is where the model takes floats.
    """
    known = {"resize", "white"} if wanted.is_float else {"resize"}
    if unknown := next((name for name in query if name not in known), None):
        raise wrong_field(
            f"query.{shorten(unknown)}", found=shorten(query[unknown]), expected=f"only {' and '.join(sorted(known))}"
        )
    resize = query.get("resize", "false")
    if resize not in ("true", "false"):
        raise wrong_field("query.resize", found=shorten(resize), expected="true or false")
    white = query.get("white")
    if wanted.is_float and white not in ("1", "255"):
        raise wrong_field(
            "query.white",
            found="nothing" if white is None else shorten(white),
            expected=f"1 or 255: the number that a white pixel is in the float input {wanted.name}",
            next_step="add ?white=1 or ?white=255, as the model was trained",
        )
    return PictureWish(resize == "true", None if white is None else int(white))


class Picture:
    """A picture whose header was read; what is refused by its header was refused already."""

    def __init__(self, content: bytes, kind: str, wanted: ImageInput, wish: PictureWish) -> None:
        """Read a picture's header.

        Args:
            content: the file's bytes, which stay in memory until it is decoded.
            kind: its content type; "" to tell it by its first bytes.
            wanted: what the model takes.
            wish: what the request says.

        Raises:
            RefusedError: 400, it is not of that type, damaged, of another size, has 16 bits or several frames.
        """
        self._wanted = wanted
        self._wish = wish
        found = next((name for signature, name in SIGNATURES.items() if content.startswith(signature)), None)
        if found is None or kind not in ("", found):
            raise wrong_field("body", found=found or "no picture", expected=kind or " or ".join(PICTURES))
        self._image = _open(content, found)
        self._check_size()
        is_deep = found == "image/png" and content[_PNG_DEPTH_AT] == _DEEP
        if is_deep or self._image.mode not in _EIGHT_BIT:
            raise wrong_field("body", found=f"{found} with 16 bits for a channel", expected="8 bits for each channel")
        if getattr(self._image, "is_animated", False):
            raise wrong_field("body", found="a picture of several frames", expected="one frame")

    @property
    def num_pixels(self) -> int:
        """Pixels that must be decoded, which is what the time goes to."""
        return self._image.width * self._image.height

    def decode(self) -> Array:
        """The row that the model takes; any thread may call it, once.

        Raises:
            RefusedError: 400, the file is damaged or transparent.
        """
        image: Any = self._image
        try:
            image.load()
            # Pillow drops the alpha channel, and shows what nobody was meant to see behind it.
            if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                image = image.convert("RGBA")
                is_opaque = image.getchannel("A").getextrema()[0] == _OPAQUE
            else:
                is_opaque = True
            image = image.convert(self._wanted.mode)
            if self._wish.resize:
                image = image.resize((self._wanted.width, self._wanted.height), _bilinear())
            pixels = np.asarray(image, np.uint8)
        except Exception as error:  # the boundary to Pillow, which raises whatever its parsers meet
            raise _damaged(error) from error
        if not is_opaque:
            raise wrong_field(
                "body",
                found="a picture with transparent pixels",
                expected="an opaque picture",
                next_step="put it on a background first",
            )
        return self._wanted.row(pixels, self._wish.white)

    def _check_size(self) -> None:
        width, height = self._image.size
        wanted = (self._wanted.width, self._wanted.height)
        if not self._wish.resize and (width, height) != wanted:
            raise wrong_field(
                "body",
                found=f"a picture {width} wide and {height} high",
                expected=f"{wanted[0]} wide and {wanted[1]} high",
                next_step="send that size, or add ?resize=true to have it stretched or shrunk to it",
            )
        # A few kilobytes can stand for gigabytes of pixels.
        if self.num_pixels > MOST_PIXELS:
            raise wrong_field(
                "body",
                found=f"a picture of {width} x {height} = {self.num_pixels} pixels",
                expected=f"at most {MOST_PIXELS} pixels",
            )


def describe(wanted: ImageInput) -> str:
    """What picture a model takes, in words."""
    return f"a {_MODE_NAMES[wanted.mode]} picture, {wanted.width} wide and {wanted.height} high"


@functools.cache
def has_pillow() -> bool:
    """Whether pictures can be decoded here; looked up once, and nothing is imported."""
    return importlib.util.find_spec("PIL") is not None


def has_imported_pillow() -> bool:
    """Whether the next picture need not wait for the import."""
    return "PIL.PngImagePlugin" in sys.modules and "PIL.JpegImagePlugin" in sys.modules


def import_pillow() -> None:
    """Import what decodes pictures; any thread may do it.

    Raises:
        RefusedError: 415, Pillow is installed and cannot be imported.
    """
    try:
        import PIL.JpegImagePlugin
        import PIL.PngImagePlugin  # noqa: F401  # for `has_imported_pillow`
    except ImportError as error:
        raise no_pillow("a picture") from error


def no_pillow(kind: str) -> RefusedError:
    """The 415 for a picture that nothing here can decode."""
    return RefusedError(
        415,
        "Content-Type: this server decodes no pictures, because Pillow is not installed",
        field="Content-Type",
        found=kind,
        expected="application/json",
        next_step="pip install 'shoal[images]' where the server runs, or send the pixels as JSON",
    )


def _open(content: bytes, kind: str) -> "ImageFile":
    try:
        # The two parsers by name: a file that says to be another never reaches another parser.
        from PIL.JpegImagePlugin import JpegImageFile
        from PIL.PngImagePlugin import PngImageFile
    except ImportError as error:
        raise no_pillow(kind) from error
    parser = PngImageFile if kind == "image/png" else JpegImageFile
    try:
        return parser(io.BytesIO(content))
    except Exception as error:  # the boundary to Pillow, which raises whatever its parsers meet
        raise _damaged(error) from error


def _bilinear() -> Any:  # noqa: ANN401  # of Pillow, which is imported only where it is needed
    from PIL.Image import Resampling

    return Resampling.BILINEAR


def _damaged(error: Exception) -> RefusedError:
    return wrong_field("body", found=f"a damaged picture ({shorten(str(error))})", expected="a whole picture")
