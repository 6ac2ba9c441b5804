import shutil

import numpy as np
import openslide as raw
import pytest
import tifffile

from mshisto_ray.slides import (
    SlideError,
    checked_mpp,
    openslide,
)

MPP = 0.5


def write_pyramid(path, levels, mpp=MPP, **options):
    """A generic tiled pyramid; resolution in pixels per centimetre."""
    with tifffile.TiffWriter(path) as tiff:
        for index, pixels in enumerate(levels):
            tiff.write(
                pixels,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(index > 0),
                resolution=(1e4 / mpp / 2**index,) * 2,
                resolutionunit="CENTIMETER",
                **options,
            )
    return path


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 250, (33, 41, 3), dtype=np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)  # 528 x 656


@pytest.fixture(scope="module")
def path(tmp_path_factory, pixels):
    file = tmp_path_factory.mktemp("slide") / "a.tiff"
    return write_pyramid(file, [pixels, pixels[::2, ::2], pixels[::4, ::4]])


def test_header(path):
    slide = openslide.build(path)
    assert slide.mpp == pytest.approx(MPP, rel=1e-4)
    assert slide.vendor == "generic-tiff"
    assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0]
    assert (slide.levels[0].width, slide.levels[0].height) == (656, 528)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_pixels_are_openslides(path, level):
    slide = openslide.build(path)
    expected = raw.OpenSlide(path).read_region((64, 128), level, (60, 40))
    result = slide.read(level, 64, 128, 60, 40)
    np.testing.assert_array_equal(result, np.asarray(expected.convert("RGB")))
    assert result.dtype == np.uint8


def test_outside_is_white(path):
    slide = openslide.build(path)
    region = slide.read(0, 600, 500, 100, 100)
    assert (region[28:] == 255).all() and (region[:, 56:] == 255).all()
    assert (region[:28, :56] < 255).any()


def test_straight_alpha_over_white():
    rgba = np.array([[[0, 100, 200, 0], [0, 100, 200, 255], [0, 100, 200, 51]]])
    result = openslide.on_white(rgba.astype(np.uint8))
    assert result.tolist() == [[[255, 255, 255], [0, 100, 200], [204, 224, 244]]]


@pytest.mark.parametrize(
    ("content", "name"),
    [(None, "MissingFile"), (b"", "NotASlide"), (b"plain text", "NotASlide")],
)
def test_files_that_are_no_slides(tmp_path, content, name):
    path = tmp_path / "x.svs"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SlideError) as caught:
        openslide.build(path)
    assert caught.value.name == name


def test_pixels_that_are_not_square(tmp_path, pixels):
    path = tmp_path / "a.tiff"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            pixels,
            tile=(256, 256),
            photometric="rgb",
            compression="jpeg",
            resolution=(20000, 10000),
            resolutionunit="CENTIMETER",
        )
    slide = openslide.build(path)
    assert slide.mpp is None
    with pytest.raises(SlideError, match="different ones in x and y"):
        checked_mpp(slide.mpp, None)
    assert checked_mpp(slide.mpp, 0.5) == 0.5


def test_mpp_from_cohort_then_file_then_a_reason():
    assert checked_mpp(0.5, 0.25) == 0.25
    assert checked_mpp(0.5, None) == 0.5
    with pytest.raises(SlideError, match="cohort's mpp column"):
        checked_mpp(None, None)
    with pytest.raises(SlideError, match=r"the file gives 352\.8"):
        checked_mpp(352.8, None)
    with pytest.raises(SlideError, match=r"the cohort gives 0\.0005"):
        checked_mpp(0.5, 0.0005)


def test_a_handle_that_raised_once_is_reopened(test_data):
    slide = openslide.build(test_data / "odd" / "corrupt_tiles_tcga-cr-7395.svs")
    unreadable = []
    for y in range(0, 3567, 256):
        for x in range(0, 4443, 256):
            try:
                assert slide.read(0, x, y, 256, 256).shape == (256, 256, 3)
            except SlideError as error:
                assert error.name == "UnreadableRegion"
                unreadable.append((x, y))
    assert len(unreadable) == 9


def test_a_handle_whose_storage_was_gone_is_reopened_when_it_is_back(
    test_data, tmp_path
):
    path = tmp_path / "a.svs"
    shutil.copy(test_data / "odd" / "corrupt_tiles_tcga-cr-7395.svs", path)
    slide = openslide.build(path)
    damaged = next(
        (x, y)
        for y in range(0, 3567, 256)
        for x in range(0, 4443, 256)
        if raises(slide, x, y)
    )
    path.rename(tmp_path / "away.svs")
    for place in (damaged, damaged, (0, 0)):
        with pytest.raises(SlideError, match="no such file"):
            slide.read(0, *place, 256, 256)
    (tmp_path / "away.svs").rename(path)
    with pytest.raises(SlideError, match="damaged here"):
        slide.read(0, *damaged, 256, 256)
    assert slide.read(0, 0, 0, 256, 256).shape == (256, 256, 3)


def raises(slide, x, y):
    try:
        slide.read(0, x, y, 256, 256)
    except SlideError:
        return True
    return False
