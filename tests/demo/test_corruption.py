import numpy as np
import pytest

pytest.importorskip("scipy")

from shoal.demo.corruption import corrupt


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, size=(5, 28, 28), dtype=np.uint8)


def test_same_images_and_seed_give_the_same_bytes(images):
    assert np.array_equal(corrupt(images, seed=3), corrupt(images, seed=3))


def test_another_seed_gives_other_noise(images):
    assert not np.array_equal(corrupt(images, seed=3), corrupt(images, seed=4))


def test_keeps_shape_and_type_and_leaves_the_input_alone(images):
    before = images.copy()

    changed = corrupt(images, seed=0)

    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    assert np.array_equal(images, before)


def test_an_image_does_not_depend_on_its_neighbours_rotation():
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 4:8, 12:16] = 200

    changed = corrupt(np.repeat(image, 3, axis=0), seed=0).astype(int)

    assert np.abs(changed[0] - changed[2]).mean() < 40
    assert changed[:, 4:8, 12:16].mean() < 100
