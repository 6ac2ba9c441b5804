import numpy as np
import openslide as raw
import pytest
import tifffile

from mshisto_ray.slides import SlideError, scaled_tiles
from mshisto_ray.tiling.pixels import box_average


def test_scaled_levels_fill_the_gaps_of_a_pyramid(tmp_path, tissue_like, write_tiff):
    path = write_tiff(
        tmp_path / "a.tiff", tissue_like(1200, 1600), factors=(1, 4), tile=240
    )
    slide = scaled_tiles.build(path)
    assert [level.downsample for level in slide.levels] == [1, 2, 4, 8, 16]
    assert [level.is_reduced for level in slide.levels] == [0, 1, 0, 1, 1]
    exact = raw.OpenSlide(path).read_region((480, 240), 0, (512, 512)).convert("RGB")
    half = slide.read(1, 480, 240, 256, 256)
    # Low frequencies of the DCT are near the box average, and in their place: moved
    # by a pixel they are further away.
    average = box_average(np.asarray(exact), 2).astype(int)
    gap = np.abs(half - average).mean()
    assert gap < 4
    assert np.abs(slide.read(1, 482, 240, 256, 256) - average).mean() > 1.5 * gap


def test_a_damaged_tile_of_a_scaled_level_is_told(tmp_path, tissue_like, write_tiff):
    pixels = tissue_like(1100, 1300)
    path = write_tiff(tmp_path / "a.tiff", pixels, factors=(1,))
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].dataoffsets[0]
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"no JPEG at all")
    slide = scaled_tiles.build(path)
    with pytest.raises(SlideError) as caught:
        slide.read(1, 0, 0, 64, 64)
    assert caught.value.name == "UnreadableRegion"
    assert slide.read(1, 512, 512, 64, 64).shape == (64, 64, 3)
