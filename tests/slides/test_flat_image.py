import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from mshisto_ray.slides import SlideError, flat_image, open_slide, read_held

DPI_OF_HALF_A_MICROMETRE = (50_800, 50_800)


def write(path, image):
    path = path.with_suffix(".png")
    Image.fromarray(image).save(path, dpi=DPI_OF_HALF_A_MICROMETRE)
    return path


def shown(path):
    """What Pillow shows, and its name of the format."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), image.format.lower()


def deep_png(path, pixels):
    """A PNG of 16 bits a channel, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", *pixels.shape[1::-1], 16, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    chunks = [
        struct.pack(">I", len(data)) + name + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]  # fmt: skip
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "jpg"])
def test_pixels_are_the_images_in_every_format(tmp_path, pixels, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    slide = open_slide(path)
    expected, name = shown(path)
    np.testing.assert_array_equal(slide.read(0, 5, 6, 20, 30), expected[6:36, 5:25])
    assert (slide.mpp, slide.vendor) == (None, name)
    far = slide.read(0, 500, 0, 3, 2)
    assert far.shape == (2, 3, 3) and (far == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_other_modes_are_shown_as_rgb(tmp_path, pixels, mode):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).convert(mode).save(path)
    found = open_slide(path).read(0, 0, 0, 30, 40)
    np.testing.assert_array_equal(found, shown(path)[0])


def test_transparent_pixels_are_white_and_not_held(tmp_path, pixels):
    rgba = np.dstack([pixels, np.full((40, 30), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    found, held = read_held(open_slide(tmp_path / "a.png"), 0, -1, 0, 31, 40)
    assert (found[:10] == 255).all()
    assert held is not None and not held[:10, 1:].any()
    assert held[10:].all() and held[:, 0].all()
    np.testing.assert_array_equal(found[10:, 1:], pixels[10:])


@pytest.mark.parametrize("dpi", [72, 300, 1200])
def test_a_resolution_of_print_is_none(tmp_path, pixels, dpi):
    Image.fromarray(pixels).save(tmp_path / "a.png", dpi=(dpi, dpi))
    assert open_slide(tmp_path / "a.png").mpp is None


def test_sides_of_different_resolution_are_none(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.tif", dpi=(50_800, 25_400))
    assert open_slide(tmp_path / "a.tif").mpp is None


def test_what_is_refused_is_refused_before_decoding(tmp_path, pixels, monkeypatch):
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(SlideError, match="8 bits a channel"):
        open_slide(tmp_path / "deep.png")
    # Pillow opens these as RGB, and drops the lower byte.
    tifffile.imwrite(tmp_path / "deep.tif", pixels.astype("u2") * 16, photometric="rgb")
    deep_png(tmp_path / "colour.png", pixels.astype(">u2") * 16)
    for name in ("deep.tif", "colour.png"):
        with pytest.raises(SlideError, match=r"RGB of 16 bits .* 8 bits a channel"):
            open_slide(tmp_path / name)
    tifffile.imwrite(tmp_path / "two.tif", np.stack([pixels] * 2), photometric="rgb")
    with pytest.raises(SlideError, match="untiled file of 2 images"):
        open_slide(tmp_path / "two.tif")
    monkeypatch.setattr(flat_image, "MAX_PX", 1000)
    with pytest.raises(SlideError, match="30 x 40 px without a pyramid: up to 1,000"):
        open_slide(write(tmp_path / "large", pixels))


def test_a_damaged_image_is_a_failure_of_the_read(tmp_path, pixels):
    path = write(tmp_path / "a", pixels)
    path.write_bytes(path.read_bytes()[:1500])
    slide = open_slide(path)
    with pytest.raises(SlideError, match="the file is damaged"):
        slide.read(0, 0, 0, 10, 10)


def test_a_tiled_tiff_is_left_to_other_readers(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(16, 16))
    assert not flat_image.opens(tmp_path / "a.tif")


def damaged(content, rng):
    data, at = bytearray(content), int(rng.integers(len(content)))
    kind = rng.integers(3)
    if kind == 0:
        for place in rng.integers(0, len(data), 10):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[at:]
    else:
        at = at % 200  # the header
        data[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
    return bytes(data)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_of_a_damaged_file_nothing_but_a_slides_failure_escapes(
    tmp_path, pixels, suffix
):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    content, failed = path.read_bytes(), 0
    for seed in range(60):
        path.write_bytes(damaged(content, np.random.default_rng(seed)))
        if not flat_image.opens(path):
            continue
        try:
            flat_image.build(path).read(0, 0, 0, 10, 10)
        except SlideError:
            failed += 1
    assert failed
