import numpy as np
import pytest
import tifffile

from mshisto_ray.slides import (
    SlideError,
    _native,
    _tiff,
    native_tiles,
    openslide,
    read_nearest,
    scaled_tiles,
)


@pytest.fixture(scope="module")
def pixels(tissue_like):
    return tissue_like(1100, 1300)


def assert_same(path, boxes, level=0):
    fast, reference = native_tiles.build(path), openslide.build(path)
    for box in boxes:
        np.testing.assert_array_equal(
            fast.read(level, *box), reference.read(level, *box)
        )


@pytest.mark.parametrize("options", [{"bigtiff": True}, {"tile": 240}, {"tile": 512}])
def test_layouts(tmp_path, pixels, write_tiff, options):
    path = write_tiff(tmp_path / "a.tiff", pixels, **options)
    assert_same(path, [(0, 0, 1300, 1100), (130, 250, 256, 256)])


def test_rgb_components_and_shared_tables(tmp_path, pixels, write_abbreviated):
    path = write_abbreviated(tmp_path / "a.tiff", pixels)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].jpegtables
    whole = native_tiles.build(path).read(0, 0, 0, 1300, 1100)
    # YCbCr taken for RGB, or the other way round, is off by dozens.
    assert np.abs(whole.astype(int) - pixels).mean() < 5
    assert_same(path, [(0, 0, 1300, 1100)])


def test_a_jfif_header_does_not_turn_rgb_into_ycbcr(tmp_path, pixels, write_tiff):
    path = write_tiff(
        tmp_path / "a.tiff", pixels, compressionargs={"outcolorspace": "RGB"}
    )
    whole = native_tiles.build(path).read(0, 0, 0, 1300, 1100)
    assert np.abs(whole.astype(int) - pixels).mean() < 5
    assert_same(path, [(0, 0, 1300, 1100)])


def patch_count(path, index, value):
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["TileByteCounts"]
        size = {3: 2, 4: 4}[int(tag.dtype)]
        offset = tag.valueoffset + index * size
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(value.to_bytes(size, "little"))


def test_missing_native_tiles_are_openslides_glass(tmp_path, pixels, write_tiff):
    path = write_tiff(tmp_path / "a.tiff", pixels)
    patch_count(path, 8, 0)  # second row, third column of six
    region = native_tiles.build(path).read(0, 512, 256, 256, 256)
    assert (region == 255).all()
    assert_same(path, [(400, 200, 300, 300), (0, 0, 256, 256)])
    with pytest.raises(SlideError, match="missing") as refused:
        scaled_tiles.build(path)
    assert refused.value.name == "NotJpegTiles"


def test_damaged_native_tiles_are_read_by_openslide(tmp_path, pixels, write_tiff):
    path = write_tiff(tmp_path / "a.tiff", pixels)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        at, size = page.dataoffsets[8], page.databytecounts[8]
        first = page.dataoffsets[0]
    with open(path, "r+b") as file:
        file.seek(at + size // 2)
        file.write(bytes(size - size // 2))
        file.seek(first)
        file.write(b"no JPEG at all")
    fast, reference = native_tiles.build(path), openslide.build(path)
    np.testing.assert_array_equal(
        fast.read(0, 500, 300, 99, 99), reference.read(0, 500, 300, 99, 99)
    )
    for slide in (fast, reference, fast):
        with pytest.raises(SlideError) as caught:
            slide.read(0, 10, 10, 64, 64)
        assert caught.value.name == "UnreadableRegion"
    # Still usable afterwards.
    assert_same(path, [(0, 600, 200, 200)])


def test_a_native_tile_is_decoded_once_while_near(
    tmp_path, pixels, write_tiff, monkeypatch
):
    decoded = []
    decode = _tiff.JpegLevel.decode
    monkeypatch.setattr(
        _tiff.JpegLevel, "decode", lambda *a: decoded.append(1) or decode(*a)
    )
    slide = native_tiles.build(write_tiff(tmp_path / "a.tiff", pixels, tile=240))
    for y in range(0, 1024, 256):
        for x in range(0, 1280, 256):
            slide.read(0, x, y, 256, 256)
    assert len(decoded) == 6 * 5


def test_the_tile_cache_is_bounded(tmp_path, pixels, write_tiff, monkeypatch):
    monkeypatch.setattr(_native, "_CACHE_BYTES", 3 * 240 * 240 * 3)
    slide = native_tiles.build(write_tiff(tmp_path / "a.tiff", pixels, tile=240))
    whole = slide.read(0, 0, 0, 1300, 1100)
    assert len(slide._decoded) == 3
    assert slide._decoded_bytes == sum(t.nbytes for t in slide._decoded.values())
    np.testing.assert_array_equal(slide.read(0, 5, 5, 400, 9), whole[5:14, 5:405])


def test_a_refusal_gives_the_reason(tmp_path, pixels):
    path = tmp_path / "a.tiff"
    tifffile.imwrite(
        path, pixels, tile=(256, 256), photometric="rgb", compression="deflate"
    )
    with pytest.raises(SlideError, match="compression DEFLATE, not JPEG") as caught:
        native_tiles.build(path)
    assert caught.value.name == "NotJpegTiles"


def test_the_nearest_pixels_are_those_of_the_level_not_interpolated(
    tmp_path, pixels, write_tiff
):
    slide = native_tiles.build(write_tiff(tmp_path / "a.tiff", pixels))
    level = slide.read(1, 0, 0, 650, 550)
    for x, y in ((41, 10), (40, 11), (301, 203)):
        col, row = round(x / 2), round(y / 2)
        found = read_nearest(slide, 1, x, y, 30, 20)
        np.testing.assert_array_equal(found, level[row : row + 20, col : col + 30])
        assert not np.array_equal(found, slide.read(1, x, y, 30, 20))
    on_pixels = slide.read(1, 40, 10, 30, 20)
    np.testing.assert_array_equal(read_nearest(slide, 1, 40, 10, 30, 20), on_pixels)
    reference = openslide.build(tmp_path / "a.tiff")  # has no such method
    np.testing.assert_array_equal(
        read_nearest(reference, 1, 41, 10, 30, 20), reference.read(1, 41, 10, 30, 20)
    )


def test_levels_that_openslide_interpolates_are_marked(tmp_path, pixels, write_tiff):
    whole = native_tiles.build(write_tiff(tmp_path / "a.tiff", pixels))
    assert not any(level.is_between for level in whole.levels)
    odd = native_tiles.build(write_tiff(tmp_path / "b.tiff", pixels[:-1, :-1]))
    first, *coarser = odd.levels
    assert not first.is_between
    assert coarser
    assert all(level.is_between for level in coarser)
