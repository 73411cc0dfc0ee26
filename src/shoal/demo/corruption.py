"""The world changes: a camera that hangs askew and a sensor that turned noisy, as a function of images and a seed."""

import numpy as np
from numpy.typing import NDArray

# Chosen so that a model trained on clean images loses about half of its accuracy, and a person still sees the garment.
ANGLE_DEGREES = 40.0
NOISE_LEVELS = 25.0


def corrupt(images: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """Return the images rotated by `ANGLE_DEGREES` and with Gaussian noise of `NOISE_LEVELS` grey levels.

    Args:
        images: uint8 [num_images, height, width].
        seed: fixes the noise; the same images and seed give the same bytes.

    Returns:
        uint8 [num_images, height, width], a new array.
    """
    from scipy import ndimage  # the demo's extra brings it; nothing else of shoal needs it

    rotated = ndimage.rotate(images.astype(np.float32), ANGLE_DEGREES, axes=(1, 2), reshape=False, order=1)
    noise = np.random.default_rng(seed).normal(0.0, NOISE_LEVELS, size=rotated.shape)
    changed: NDArray[np.uint8] = np.clip(rotated + noise, 0, 255).astype(np.uint8)
    return changed
