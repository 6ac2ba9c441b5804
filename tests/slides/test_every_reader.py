"""The contract of every slide reader."""

import numpy as np
import openslide as raw
import pytest

from mshisto_ray import components
from mshisto_ray.slides import (
    SlideError,
    open_slide,
)

FAMILY = "mshisto_ray.slides"
SIZE = (1000, 777)  # width, height: no level ends on a native tile


@pytest.fixture(params=components.available(FAMILY))
def reader(request):
    return request.param


@pytest.fixture(scope="module", params=[256, 240])
def path(request, tmp_path_factory, tissue_like, write_tiff):
    file = tmp_path_factory.mktemp("reader") / f"{request.param}.tiff"
    pixels = tissue_like(SIZE[1], SIZE[0])
    return write_tiff(file, pixels, factors=(1, 2, 5), tile=request.param)


def over_white(image):
    rgba = np.asarray(image, float)
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha))


def test_header_is_openslides(reader, path):
    slide = open_slide(path, reader)
    expected = raw.OpenSlide(path)
    sizes = [(level.width, level.height) for level in slide.levels]
    assert set(expected.level_dimensions) <= set(sizes)
    assert sizes[0] == SIZE
    assert slide.mpp == pytest.approx(0.5, rel=1e-4)
    assert (slide.vendor, slide.objective) == ("generic-tiff", None)
    downsamples = [level.downsample for level in slide.levels]
    assert downsamples == sorted(downsamples)
    slide.close()


def test_native_levels_are_openslides_pixels_anywhere(reader, path):
    """Also between the pixels of a level, over edges, and outside."""
    slide, expected = open_slide(path, reader), raw.OpenSlide(path)
    rng = np.random.default_rng(0)
    sizes = [(level.width, level.height) for level in slide.levels]
    for level, size in enumerate(expected.level_dimensions):
        for _ in range(25):
            x, y = (int(v) for v in rng.integers(-100, 1100, 2))
            width, height = (int(v) for v in rng.integers(1, 400, 2))
            found = slide.read(sizes.index(size), x, y, width, height)
            region = expected.read_region((x, y), level, (width, height))
            assert found.dtype == np.uint8 and found.flags.c_contiguous
            np.testing.assert_array_equal(found, over_white(region))
    slide.close()


def test_every_level_shows_the_same_tissue(reader, path):
    slide = open_slide(path, reader)
    means = []
    for index, level in enumerate(slide.levels):
        side = round(300 / level.downsample)
        region = slide.read(index, 400, 300, side, side)
        means.append(region.mean(axis=(0, 1)))
    assert np.ptp(means, axis=0).max() < 4
    slide.close()


def test_the_caller_may_change_what_read_returns(reader, path):
    slide = open_slide(path, reader)
    first = slide.read(0, 0, 0, 256, 256)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), kept)
    slide.close()


@pytest.mark.parametrize(("content", "name"), [(None, "MissingFile"), (b"x", "NotASl")])
def test_files_that_are_no_slides(reader, tmp_path, content, name):
    path = tmp_path / "x.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SlideError) as caught:
        open_slide(path, reader)
    assert caught.value.name.startswith(name)
