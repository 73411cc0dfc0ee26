import contextlib
import io
import struct
import sys
import zlib

import numpy as np
import pytest

from shoal.serve.wire.images import (
    MOST_PIXELS,
    ImageInput,
    Picture,
    PictureWish,
    describe,
    has_imported_pillow,
    image_input,
    import_pillow,
    read_wish,
)
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.plain import PlainForm
from shoal.serve.wire.refusal import RefusedError

Image = pytest.importorskip("PIL.Image")

GREY = ImageInput("x", 2, 3, "L", "HW", is_float=False)
COLOUR = ImageInput("x", 2, 3, "RGB", "HWC", is_float=False)
PIXELS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
RGB = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10
PNG, JPEG = "image/png", "image/jpeg"


def encode(array, format="PNG", mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    sink = io.BytesIO()
    (image.convert(mode) if mode else image).save(sink, format, **options)
    return sink.getvalue()


def decode(content, wanted=GREY, kind=PNG, **wish):
    return Picture(content, kind, wanted, PictureWish(**wish)).decode()


def refused(content, wanted=GREY, kind=PNG, **wish):
    with pytest.raises(RefusedError) as caught:
        decode(content, wanted, kind, **wish)
    assert caught.value.status == 400
    assert caught.value.expected
    return caught.value


def form(*inputs, batched=True):
    fields = tuple(TensorField(f"x{place}", *each) for place, each in enumerate(inputs))
    return PlainForm(Interface(fields, (TensorField("y", "FP32", (None if batched else 1,)),), batched=batched))


@pytest.mark.parametrize(
    ("datatype", "shape", "mode", "layout"),
    [
        ("UINT8", (None, 28, 30), "L", "HW"),
        ("UINT8", (None, 28, 30, 1), "L", "HWC"),
        ("UINT8", (None, 28, 30, 3), "RGB", "HWC"),
        ("FP32", (None, 1, 28, 30), "L", "CHW"),
        ("FP32", (None, 3, 28, 30), "RGB", "CHW"),
    ],
)
def test_a_model_of_one_input_of_pixels_takes_pictures(datatype, shape, mode, layout):
    found = image_input(form((datatype, shape)))

    assert found == ImageInput("x0", 28, 30, mode, layout, is_float=datatype == "FP32")
    assert "30 wide and 28 high" in describe(found)


def test_a_model_for_one_row_takes_pictures_too():
    assert image_input(form(("UINT8", (1, 28, 30)), batched=False)).height == 28


@pytest.mark.parametrize(
    "inputs",
    [
        [("INT64", (None, 28, 28))],
        [("UINT8", (None, 28))],
        [("UINT8", (None, None, 28))],
        [("UINT8", (None, 28, 28, 4))],
        [("UINT8", (None, 1, 28, 28, 1))],
        [("UINT8", (None, 28, 28)), ("UINT8", (None, 28, 28))],
        [("UINT8", (None, 28, 28)), ("FP32", (None,))],
    ],
)
def test_other_models_take_none(inputs):
    assert image_input(form(*inputs)) is None


@pytest.mark.parametrize("options", [{}, {"optimize": True}])
def test_a_png_comes_through_bit_for_bit(options):
    assert decode(encode(PIXELS, **options)).tolist() == [PIXELS.tolist()]
    assert decode(encode(RGB, **options), COLOUR).tolist() == [RGB.tolist()]


def test_a_jpeg_is_decoded_as_pillow_does():
    content = encode(RGB, "JPEG")

    found = decode(content, COLOUR, JPEG)

    np.testing.assert_array_equal(found[0], np.asarray(Image.open(io.BytesIO(content))))


def test_layouts_and_floats():
    planes = ImageInput("x", 2, 3, "RGB", "CHW", is_float=True)
    content = encode(RGB)

    as_bytes, as_units = decode(content, planes, white=255), decode(content, planes, white=1)

    assert (as_bytes.dtype, as_bytes.shape) == (np.float32, (1, 3, 2, 3))
    assert as_bytes.flags.c_contiguous
    np.testing.assert_array_equal(as_bytes[0], np.moveaxis(RGB, -1, 0))
    np.testing.assert_array_equal(as_units, as_bytes / np.float32(255))
    assert decode(encode(PIXELS), ImageInput("x", 2, 3, "L", "HWC", is_float=False)).shape == (1, 2, 3, 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_an_opaque_picture_of_any_mode_is_fitted_to_the_models(mode):
    content = encode(np.zeros((2, 3), np.uint8), mode=mode)

    assert decode(content).tolist() == [[[0] * 3] * 2]
    assert decode(content, COLOUR).shape == (1, 2, 3, 3)


def test_another_size_is_refused_unless_the_request_says_resize():
    content = encode(np.full((20, 30), 77, np.uint8))

    error = refused(content)

    assert (error.found, error.expected) == ("a picture 30 wide and 20 high", "3 wide and 2 high")
    assert "resize=true" in error.next_step
    assert decode(content, resize=True).tolist() == [[[77] * 3] * 2]


def test_transparency_is_refused():
    clear = np.zeros((2, 3, 4), np.uint8)
    palette = Image.fromarray(PIXELS).convert("P")

    assert "transparent" in refused(encode(clear), COLOUR).found
    assert "transparent" in refused(encode(palette, transparency=0)).found


def test_sixteen_bits_are_refused_and_not_cut():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    deep_colour = b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress((b"\0" + b"\1\2" * 9) * 2)),
            chunk(b"IEND", b""),
        )
    )

    assert "16 bits" in refused(deep_colour, COLOUR).found
    assert "16 bits" in refused(encode(PIXELS.astype(np.uint16) * 200)).found


def test_several_frames_are_refused():
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]

    assert "frames" in refused(encode(frames[0], save_all=True, append_images=frames[1:])).found


def test_a_bomb_is_refused_by_its_header():
    content = bytearray(encode(PIXELS))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))

    error = refused(bytes(content), resize=True)

    assert (error.found, error.expected) == (
        "a picture of 60000 x 60000 = 3600000000 pixels",
        f"at most {MOST_PIXELS} pixels",
    )


def test_texts_that_unfold_to_gigabytes_are_refused():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("bomb", "x" * 100_000_000, zip=True)

    assert "damaged" in refused(encode(PIXELS, pnginfo=info)).found


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_damaged_picture_is_refused_wherever_it_was_cut_or_changed(format):
    kind = {"PNG": PNG, "JPEG": JPEG}[format]
    content = encode(np.random.default_rng(1).integers(0, 255, (2, 3), np.uint8), format)
    random = np.random.default_rng(2)

    for cut in range(0, len(content) - 26, 7):
        refused(content[:cut], kind=kind)
    for _ in range(200):
        changed = bytearray(content)
        changed[random.integers(len(changed))] ^= 1 << random.integers(8)
        # A flipped bit may leave a picture that can be decoded; what it may not do is raise anything else.
        with contextlib.suppress(RefusedError):
            assert decode(bytes(changed), kind=kind).shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("content", "kind", "found"),
    [
        (b"", PNG, "no picture"),
        (b"GIF89a", "", "no picture"),
        (encode(PIXELS, "JPEG"), PNG, JPEG),
        (encode(PIXELS), JPEG, PNG),
        (encode(PIXELS, "GIF"), PNG, "no picture"),
    ],
)
def test_a_picture_must_be_what_it_says(content, kind, found):
    assert refused(content, kind=kind).found == found


def test_without_a_type_the_first_bytes_tell():
    assert decode(encode(PIXELS), kind="").tolist() == [PIXELS.tolist()]


@pytest.mark.parametrize(
    ("query", "is_float", "field"),
    [
        ({"resize": "yes"}, False, "query.resize"),
        ({"white": "255"}, False, "query.white"),
        ({"size": "1"}, False, "query.size"),
        ({}, True, "query.white"),
        ({"white": "2"}, True, "query.white"),
    ],
)
def test_a_wrong_query_is_refused(query, is_float, field):
    with pytest.raises(RefusedError) as caught:
        read_wish(query, ImageInput("x", 2, 3, "L", "HW", is_float))

    assert caught.value.field == field


def test_a_float_input_must_be_told_what_white_is():
    floats = ImageInput("x", 2, 3, "L", "HW", is_float=True)

    assert read_wish({"white": "1", "resize": "true"}, floats) == PictureWish(resize=True, white=1)
    assert read_wish({}, GREY) == PictureWish()


def test_without_pillow_a_picture_is_415_with_the_next_step(monkeypatch):
    content = encode(PIXELS)
    for name in ("PIL.PngImagePlugin", "PIL.JpegImagePlugin"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(RefusedError, match=r"pip install 'shoal\[images\]'") as caught:
        decode(content)
    with pytest.raises(RefusedError, match="Pillow is not installed"):
        import_pillow()

    assert caught.value.status == 415


def test_pillow_is_imported_once():
    import_pillow()

    assert has_imported_pillow()
