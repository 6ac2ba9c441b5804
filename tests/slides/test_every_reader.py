"""The contract of every slide reader."""

import numpy as np
import openslide as raw
import pytest
from fixtures.parts import held

from mshisto_ray import components
from mshisto_ray.slides import FAMILY, SlideError, open_slide, openslide

SIZE = (1000, 777)  # width, height: no level ends on a native tile


every = pytest.mark.parametrize("reader", components.available(FAMILY))


@pytest.fixture(scope="module", params=[256, 240])
def tiff(request, tmp_path_factory, tissue_like, write_tiff):
    file = tmp_path_factory.mktemp("reader") / f"{request.param}.tiff"
    pixels = tissue_like(SIZE[1], SIZE[0])
    return write_tiff(file, pixels, factors=(1, 2, 5), tile=request.param)


@pytest.fixture
def path(reader, tiff, tissue_like, tmp_path):
    """A slide of 1000 x 777 px at 0.5 um/px that the reader opens.

    Its test may hold ``write(path, pixels)``, where that is no TIFF; ``path`` has no
    suffix, and what it returns has one.
    """
    write = held(FAMILY, reader, "write", None)
    return write(tmp_path / "a", tissue_like(SIZE[1], SIZE[0])) if write else tiff


def over_white(image):
    rgba = np.asarray(image, float)
    alpha = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha))


@every
def test_header_and_what_openslide_says_too(reader, path):
    slide = open_slide(path, reader)
    sizes = [(level.width, level.height) for level in slide.levels]
    if openslide.opens(path):
        assert set(raw.OpenSlide(path).level_dimensions) <= set(sizes)
        assert (slide.vendor, slide.objective) == ("generic-tiff", None)
    assert sizes[0] == SIZE
    assert slide.mpp == pytest.approx(0.5, rel=1e-4)
    downsamples = [level.downsample for level in slide.levels]
    assert downsamples == sorted(downsamples)
    slide.close()


@every
def test_native_levels_are_openslides_pixels_anywhere(reader, path):
    """Also between the pixels of a level, over edges, and outside."""
    if not openslide.opens(path):
        return
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


@every
def test_every_level_shows_the_same_tissue(reader, path):
    slide = open_slide(path, reader)
    means = []
    for index, level in enumerate(slide.levels):
        side = round(300 / level.downsample)
        region = slide.read(index, 400, 300, side, side)
        means.append(region.mean(axis=(0, 1)))
    assert np.ptp(means, axis=0).max() < 4
    slide.close()


@every
def test_what_a_read_returns_is_the_callers(reader, path):
    slide = open_slide(path, reader)
    first = slide.read(0, 0, 0, 256, 256)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(slide.read(0, 0, 0, 256, 256), kept)
    slide.close()


@every
def test_a_read_is_a_part_of_the_whole_and_white_outside(reader, path):
    slide = open_slide(path, reader)
    whole = slide.read(0, 0, 0, *SIZE)
    assert whole.shape == (SIZE[1], SIZE[0], 3) and whole.dtype == np.uint8
    np.testing.assert_array_equal(
        slide.read(0, 130, 70, 300, 200), whole[70:270, 130:430]
    )
    over = slide.read(0, SIZE[0] - 10, -20, 30, 40)
    assert over.flags.c_contiguous
    np.testing.assert_array_equal(over[20:, :10], whole[:20, -10:])
    assert (over[:20] == 255).all() and (over[:, 10:] == 255).all()
    slide.close()


@every
def test_it_opens_its_own_files_alone(reader, path, tmp_path):
    opens = components.declaration(FAMILY, reader, "opens", None)
    assert opens(path) is True
    (tmp_path / "x.svs").write_bytes(b"x")
    for other in (tmp_path / "x.svs", tmp_path / "gone.svs", tmp_path):
        assert opens(other) is False


@every
@pytest.mark.parametrize(("content", "name"), [(None, "MissingFile"), (b"x", "NotASl")])
def test_files_that_are_no_slides(reader, tmp_path, content, name):
    path = tmp_path / "x.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SlideError) as caught:
        open_slide(path, reader)
    assert caught.value.name.startswith(name)
