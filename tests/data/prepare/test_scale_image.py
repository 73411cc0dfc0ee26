import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import ScaleImage

PHOTOS = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    "operator",
    [
        ScaleImage(),
        ScaleImage(mean=MEAN, std=STD),
        ScaleImage(mean=MEAN, std=STD, channels_first=False),
        ScaleImage(mean=(0.5,), std=(0.25,), divisor=1),
    ],
)
def test_photos_give_the_same_bits(fit_one, assert_same_bits, operator):
    found = assert_same_bits(fit_one([operator], PHOTOS), {"x": PHOTOS})["x"]

    assert found.shape == ((6, 3, 4, 5) if operator.channels_first else (6, 4, 5, 3))
    assert found.flags.c_contiguous


def test_channels_are_standardised_each(fit_one):
    found = fit_one([ScaleImage(mean=MEAN, std=STD)], PHOTOS).apply({"x": PHOTOS})["x"]

    np.testing.assert_allclose(found[2, 1, 3, 4], (PHOTOS[2, 3, 4, 1] / 255 - MEAN[1]) / STD[1], rtol=1e-5)


def test_stored_channels_stay_first(fit_one, assert_same_bits):
    stored = np.ascontiguousarray(PHOTOS.transpose(0, 3, 1, 2))
    operator = ScaleImage(mean=MEAN, std=STD, stored_first=True)

    found = assert_same_bits(fit_one([operator], stored), {"x": stored})["x"]

    assert np.array_equal(found, fit_one([ScaleImage(mean=MEAN, std=STD)], PHOTOS).apply({"x": PHOTOS})["x"])


def test_grey_images_have_no_channels(fit_one, assert_same_bits):
    grey = PHOTOS[..., 0]

    assert assert_same_bits(fit_one([ScaleImage(mean=(0.5,), std=(0.5,))], grey), {"x": grey})["x"].shape == (6, 4, 5)


@pytest.mark.parametrize("fields", [{"divisor": 0}, {"mean": (1.0,)}, {"mean": (1.0,), "std": (0.0,)}])
def test_wrong_numbers_are_refused(fields):
    with pytest.raises(SchemaError, match="expected a divisor above 0"):
        ScaleImage(**fields)


def test_another_number_of_channels_is_refused(fit_one):
    with pytest.raises(SchemaError, match="has 3 channels, and ScaleImage 2 means"):
        fit_one([ScaleImage(mean=(0.0, 0.0), std=(1.0, 1.0))], PHOTOS)


def test_what_is_no_image_is_refused(fit_one):
    with pytest.raises(SchemaError, match="expected images"):
        fit_one([ScaleImage()], np.zeros((3, 7)))
