"""Slides for the tests of Ray stages."""

import numpy as np
import pytest
import tifffile


def _write_slide(path, seed, size=(1100, 900), mpp=0.5):
    """Two textured discs of tissue on glass, as a pyramidal JPEG TIFF."""
    rng = np.random.default_rng(seed)
    width, height = size
    pixels = np.full((height, width, 3), 242, np.uint8)
    rows, cols = np.ogrid[:height, :width]
    for _ in range(2):
        centre = rng.integers(250, (height - 250, width - 250))
        disc = (rows - centre[0]) ** 2 + (cols - centre[1]) ** 2 < 220**2
        texture = rng.normal((205, 140, 185), 25, (height, width, 3))
        pixels[disc] = np.clip(texture, 0, 255).astype(np.uint8)[disc]
    with tifffile.TiffWriter(path) as tiff:
        for level in range(3):
            tiff.write(
                pixels[:: 2**level, :: 2**level],
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(level > 0),
                resolution=(1e4 / mpp / 2**level,) * 2,
                resolutionunit="CENTIMETER",
            )


@pytest.fixture(scope="session")
def write_slide():
    """Writes two textured discs of tissue on glass: (path, seed, size, mpp)."""
    return _write_slide
