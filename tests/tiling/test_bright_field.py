"""Bright field, fluorescence and filler, as thumbnails."""

import numpy as np
import pytest
from fixtures.odd_slides import on_glass, tissue

from mshisto_ray.slides import SlideError
from mshisto_ray.tiling.bright_field import check_bright_field
from mshisto_ray.tiling.thumbnail import Thumbnail


def thumbnail(pixels, missing=None):
    shape = pixels.shape[:2]
    missing = np.zeros(shape, bool) if missing is None else missing
    return Thumbnail(pixels, np.ones(shape, bool), missing, missing, 16.0)


def filled(picture, colour=0, size=(400, 500)):
    """A picture in the middle of filler."""
    pixels = np.full((*size, 3), colour, np.uint8)
    top, left = ((n - m) // 2 for n, m in zip(size, picture.shape, strict=False))
    pixels[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return pixels


def glowing(colour, strength=1.0, share=0.5):
    """A dye on a dark background, which fades."""
    rng = np.random.default_rng(0)
    light = np.clip(rng.normal(0.75, 0.15, (200, 300, 1)) * strength, 0, 1)
    light[:, round(300 * share) :] = rng.random((200, 300, 1))[:, round(300 * share) :]
    light[:, round(300 * share) :] **= 8
    return (light * np.array(colour)).astype(np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [
        on_glass(300, 200, 50, 50, 200, 100),
        tissue(300, 200),
        filled(on_glass(100, 80, 20, 20, 60, 40)),
        filled(on_glass(100, 80, 20, 20, 60, 40), 12),
        filled(on_glass(24, 20, 5, 5, 14, 10)),
    ],
    ids=["glass", "tissue", "black", "nearly black", "mostly black"],
)
def test_bright_field(pixels):
    check_bright_field(thumbnail(pixels))


@pytest.mark.parametrize(
    "pixels",
    [
        *(glowing(colour, share=share) for share in (0.2, 0.5, 0.9)
          for colour in ([0, 0, 255], [0, 255, 0], [255, 0, 0], [0, 255, 255])),
        filled(glowing([0, 255, 0])),
        np.zeros((20, 20, 3), np.uint8),
    ],
)  # fmt: skip
def test_fluorescence(pixels):
    with pytest.raises(SlideError, match="fluorescence") as caught:
        check_bright_field(thumbnail(pixels))
    assert caught.value.name == "NotBrightField"


def test_pixels_that_the_file_lacks_say_nothing():
    pixels = filled(glowing([0, 0, 255]), 255)
    missing = (pixels == 255).all(-1)
    with pytest.raises(SlideError, match="fluorescence"):
        check_bright_field(thumbnail(pixels, missing))
    check_bright_field(thumbnail(pixels, np.ones(pixels.shape[:2], bool)))
