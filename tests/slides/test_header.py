"""What OpenSlide's header is taken to say."""

from types import SimpleNamespace

import numpy as np
import openslide as raw
import pytest
from fixtures.odd_slides import drop_tiles, on_glass, shrink, write, write_scn

from mshisto_ray.slides import _header, _tiff, frame_of, gaps_of, open_slide, read_held


def handle(sizes, tile=(256, 256), **properties):
    """A slide of these level sizes, as OpenSlide shows it."""
    whole = sizes[0]
    for level in range(len(sizes)):
        for side, pixels in zip(("width", "height"), tile, strict=True):
            properties[f"openslide.level[{level}].tile-{side}"] = str(pixels)
    return SimpleNamespace(
        dimensions=whole,
        level_dimensions=tuple(sizes),
        level_downsamples=tuple(
            sum(n / m for n, m in zip(whole, size, strict=True)) / 2 for size in sizes
        ),
        level_count=len(sizes),
        properties=properties,
    )


@pytest.mark.parametrize(
    ("sizes", "downsamples"),
    [
        # Aperio, rounded down; Hamamatsu, exact; halved again and again, rounded up.
        ([(46000, 32914), (11500, 8228), (2875, 2057)], [1, 4, 16]),
        ([(3968, 4864), (1984, 2432), (62, 76)], [1, 2, 64]),
        ([(100_001, 77_777), (50_001, 38_889), (6251, 4862)], [1, 2, 16]),
        ([(2220, 2967), (760, 1016)], [1, pytest.approx(2.9207, abs=1e-3)]),
        # Padded or cropped to native tiles.
        ([(4099, 3075), (2304, 1792)], [1, np.inf]),
        ([(4099, 3075), (1792, 1280), (1024, 768)], [1, np.inf, 4]),
        ([(4099, 4099), (2304, 2304)], [1, np.inf]),
        ([(5000, 5000), (2304, 2304)], [1, np.inf]),
    ],
)
def test_downsamples_of_levels(sizes, downsamples):
    levels = _header.levels_of(handle(sizes))
    assert [(level.width, level.height) for level in levels] == sizes
    assert [level.downsample for level in levels] == downsamples
    expected = [downsample != np.inf for downsample in downsamples]
    assert [level.is_sound for level in levels] == expected


OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/'
    'Schemas/OME/2016-06"><Image ID="Image:0"><Pixels SizeX="9" SizeY="9" '
    'PhysicalSizeX="7"/></Image><Image ID="Image:1"><Pixels SizeX="100" SizeY="80" {}/>'
    "</Image></OME>"
)


@pytest.mark.parametrize(
    ("text", "mpp"),
    [
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.25"', 0.25),
        ('PhysicalSizeX="0.25" PhysicalSizeXUnit="\u03bcm"', 0.25),
        ('PhysicalSizeX="250" PhysicalSizeXUnit="nm"', 0.25),
        ('PhysicalSizeX="0.00025" PhysicalSizeXUnit="mm"', 0.25),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel"', None),
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.5"', None),
        ("", None),
    ],
)
def test_mpp_from_ome_xml_of_the_image_of_this_size(text, mpp):
    properties = {"tiff.ImageDescription": OME.format(text)}
    found = _header.mpp_of(handle([(100, 80)], **properties))
    assert found == (mpp if mpp is None else pytest.approx(mpp))
    properties["openslide.mpp-x"] = "0.4"
    assert _header.mpp_of(handle([(100, 80)], **properties)) == 0.4


def test_unreadable_ome_xml_says_nothing():
    for text in ("<OME", "<!DOCTYPE x [<!ENTITY a 'b'>]><OME>&a;</OME>"):
        properties = {"tiff.ImageDescription": text}
        assert _header.mpp_of(handle([(100, 80)], **properties)) is None


def test_the_frame_of_a_scanned_area(tmp_path):
    area = on_glass(1200, 1000, 200, 200, 700, 600)
    path = write_scn(tmp_path / "a.scn", [(area, 1500, 1800)], 4000, 4000)
    slide = open_slide(path)
    frame = frame_of(slide)
    assert (frame.size, frame.origin, frame.shown) == (
        (4000, 4000), (1500, 1800), (1200, 1000),
    )  # fmt: skip
    pixels, held = read_held(slide, 0, 1400, 1700, 300, 300)
    assert held is not None and held[:100].sum() == held[:, :100].sum() == 0
    assert held[100:, 100:].all() and (pixels[~held] == 255).all()
    assert read_held(slide, 0, 1600, 1900, 256, 256)[1] is None
    # The outside of the plane is glass, not missing.
    held = read_held(slide, 1, -40, -40, 30, 30)[1]
    assert held is not None and held[:9].all() and held[:, :9].all()
    assert not held[12:, 12:].any()
    slide.close()


@pytest.mark.parametrize("reader", ["openslide", "native_tiles"])
def test_native_tiles_that_a_tiff_lacks(tmp_path, reader):
    plane = on_glass(1000, 777, 200, 200, 600, 400)
    path = write(tmp_path / "a.tif", [plane, shrink(plane, 2)])
    assert len(gaps_of(open_slide(path, reader), 0)) == 0
    drop_tiles(path, [(1, 2), (3, 3)])
    drop_tiles(path, [(0, 1)], level=1)
    slide = open_slide(path, reader)
    assert gaps_of(slide, 0).tolist() == [[512, 256, 768, 512], [768, 768, 1000, 777]]
    down = raw.OpenSlide(path).level_downsamples[1]
    assert gaps_of(slide, 1) == pytest.approx(np.array([[256, 0, 500, 256]]) * down)
    held = read_held(slide, 0, 500, 250, 20, 10)[1]
    expected = np.ones((10, 20), bool)
    expected[6:, 12:] = False
    np.testing.assert_array_equal(held, expected)
    slide.close()


def test_a_page_padded_to_native_tiles_is_its_levels(tmp_path):
    """Philips writes pages so, and OpenSlide shows the level without the padding."""
    path = write(tmp_path / "a.tif", [on_glass(1024, 1024, 200, 200, 600, 400)])
    drop_tiles(path, [(3, 3)])
    boxes = [[768, 768, 1024, 1024]]
    assert _tiff.gaps(path, (1000, 777)).tolist() == boxes
    assert len(_tiff.gaps(path, (700, 777))) == len(_tiff.gaps(path, (1025, 777))) == 0
