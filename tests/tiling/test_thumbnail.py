"""Thumbnails need little memory, whatever the slide."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile

from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.tiling import thumbnail
from mshisto_ray.tiling.thumbnail import read_thumbnail


def write_single_level(path, side, mpp=0.25, tile=256):
    """A slide of one level: glass and tissue by turns, each tile encoded once."""
    rng = np.random.default_rng(0)
    encoded = []
    for colour in ((242, 242, 242), (205, 140, 185)):
        noise = rng.normal(colour, 2, (tile, tile, 3))
        pixels = np.clip(noise, 0, 255).astype(np.uint8)[..., ::-1]
        encoded.append(cv2.imencode(".jpg", pixels)[1].tobytes())
    num = side // tile
    tiles = (encoded[(i // num // 20 + i % num // 20) % 2] for i in range(num * num))
    tifffile.imwrite(
        path, tiles, shape=(num * tile, num * tile, 3), dtype=np.uint8,
        tile=(tile, tile), photometric="ycbcr", subsampling=(2, 2), compression="jpeg",
        resolution=(1e4 / mpp,) * 2, resolutionunit="CENTIMETER", bigtiff=True,
    )  # fmt: skip
    return path


def test_a_thumbnail_too_large_is_coarser_and_its_pixels_are_box_averages(
    tmp_path, monkeypatch
):
    slide = open_slide(write_single_level(tmp_path / "a.tiff", 2048))
    whole = slide.read(0, 0, 0, 2048, 2048).astype(float)
    assert read_thumbnail(slide, 0.25, 8.0).span == 32
    monkeypatch.setattr(thumbnail, "_MAX_PIXELS", 1100)
    found = read_thumbnail(slide, 0.25, 8.0)
    slide.close()
    assert found.span == 62 and found.pixels.shape == (34, 34, 3)
    expected = whole[: 33 * 62, : 33 * 62].reshape(33, 62, 33, 62, 3).mean((1, 3))
    np.testing.assert_allclose(found.pixels[:33, :33], expected, atol=0.51)


_PEAK = """
import sys
from pathlib import Path
from mshisto_ray.slides._open import open_slide
from mshisto_ray.tiling.thumbnail import read_thumbnail
from mshisto_ray.tiling.tissue_masks import otsu

def held(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(v.split()[1]) for v in lines if v.startswith(name)) / 1024

before = held("VmRSS:")
Path("/proc/self/clear_refs").write_text("5")
thumbnail = read_thumbnail(open_slide(Path(sys.argv[1]), "native_tiles"), 0.25, 8.0)
share = otsu.build()(thumbnail.pixels, 0.25 * thumbnail.span).mean()
print(thumbnail.pixels.shape[0], share, held("VmHWM:") - before)
"""


@pytest.mark.slow
def test_a_slide_of_one_level_needs_no_more_memory_than_a_sixteenth_of_it(tmp_path):
    peaks = []
    for side in (10240, 40960):
        path = write_single_level(tmp_path / f"{side}.tiff", side)
        words = [sys.executable, "-c", _PEAK, str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        pixels, share, peak = map(float, done.stdout.split())
        assert pixels == side / 32 and share == pytest.approx(0.5, abs=0.03)
        peaks.append(peak)
        path.unlink()
    # The larger one is 5 GB as pixels.
    assert peaks[1] < 200 and peaks[1] - peaks[0] < 60
