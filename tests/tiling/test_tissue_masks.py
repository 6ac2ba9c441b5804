import numpy as np
import pytest
import shapely

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.tiling.annotation import AnnotationError, Region
from mshisto_ray.tiling.thumbnail import read_thumbnail
from mshisto_ray.tiling.tissue_masks import annotation, otsu, stain

PINK = np.array([222, 160, 200])


def glass(shape=(120, 160), level=242):
    noise = np.random.default_rng(0).normal(0, 2, (*shape, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


def with_disc(pixels, centre, radius, colour=PINK):
    rows, cols = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    disc = (rows - centre[0]) ** 2 + (cols - centre[1]) ** 2 <= radius**2
    pixels[disc] = colour
    return disc


def test_a_piece_of_tissue_is_found_to_its_edge():
    pixels = glass()
    disc = with_disc(pixels, (60, 80), 30)
    found = otsu.build()(pixels, 8.0)
    assert (found & disc).sum() / (found | disc).sum() > 0.93


def test_bare_glass_has_no_tissue():
    assert not otsu.build()(glass(), 8.0).any()


def test_black_borders_are_not_tissue():
    pixels = glass()
    pixels[:10] = np.random.default_rng(1).integers(0, 12, (10, 160, 3))
    disc = with_disc(pixels, (70, 80), 25)
    found = otsu.build()(pixels, 8.0)
    assert not found[:8].any()
    assert found[disc].mean() > 0.95


def test_dust_goes_and_lumina_stay():
    pixels = glass()
    with_disc(pixels, (60, 80), 35)
    with_disc(pixels, (60, 80), 4, (240, 240, 240))  # 0.003 mm2 of lumen
    with_disc(pixels, (10, 10), 3)  # 0.002 mm2 of dust
    found = otsu.build()(pixels, 8.0)
    assert found[60, 80]
    assert not found[:20, :20].any()
    strict = otsu.build(min_object_mm2=0.0, max_hole_mm2=0.0)(pixels, 8.0)
    assert strict[10, 10] and not strict[60, 80]


@pytest.mark.parametrize("full", [True, False])
def test_a_region_full_of_tissue_is_not_split(full):
    rng = np.random.default_rng(0)
    pixels = np.clip(PINK + rng.normal(0, 12, (80, 80, 3)), 0, 255).astype(np.uint8)
    pixels[:, 40:] = np.clip(pixels[:, 40:] - [70, 90, 40], 0, 255)  # dark purple half
    if not full:
        pixels[:20] = 243
    found = otsu.build()(pixels, 8.0)
    assert found[24:].mean() > 0.99


def test_otsu_threshold_separates_two_modes():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.2, 0.02, 900), rng.normal(0.7, 0.02, 100)])
    threshold = otsu._otsu(values)
    assert (values > threshold).sum() == 100


FAMILY = "mshisto_ray.tiling.tissue_masks"
# What felt-tip pens leave on a coverslip, as scanned.
INKS = {
    "black": (28, 26, 30),
    "blue": (52, 66, 165),
    "green": (36, 128, 84),
    "red": (206, 48, 52),
    "faint blue": (150, 170, 225),
    "faint green": (150, 205, 175),
}
PALE = np.array([236, 224, 233])


@pytest.fixture(params=["otsu", "stain"])  # an annotation is not detected
def find(request):
    return components.build(FAMILY, Part(name=request.param))


def test_every_mask_finds_a_piece_and_nothing_on_glass(find):
    assert not find(glass(), 8.0).any()
    pixels = glass()
    disc = with_disc(pixels, (60, 80), 30)
    found = find(pixels, 8.0)
    assert found.dtype == bool and found.shape == disc.shape
    assert (found & disc).sum() / (found | disc).sum() > 0.9


def test_every_mask_leaves_black_borders_out(find):
    pixels = glass()
    pixels[:10] = np.random.default_rng(1).integers(0, 12, (10, 160, 3))
    pixels[:, :12] = 2
    disc = with_disc(pixels, (70, 80), 25)
    found = find(pixels, 8.0)
    assert not found[:8].any() and not found[:, :9].any()
    assert found[disc].mean() > 0.95


@pytest.mark.parametrize("ink", INKS)
def test_pen_is_not_tissue_and_tissue_beside_it_is(ink):
    pixels = glass()
    disc = with_disc(pixels, (60, 50), 28)
    pen = with_disc(pixels, (60, 130), 20, INKS[ink])
    pixels[20:26, 90:150] = INKS[ink]
    found = stain.build()(pixels, 8.0)
    assert found[disc].mean() > 0.93
    assert found[pen].mean() < 0.02 and found[:40, 90:].mean() < 0.02


def test_blood_within_tissue_is_tissue():
    pixels = glass()
    disc = with_disc(pixels, (60, 80), 35)
    for row, col in ((50, 70), (66, 88), (72, 66)):
        with_disc(pixels, (row, col), 5, (150, 40, 45))  # .005 mm2 each
    assert stain.build()(pixels, 8.0)[disc].mean() > 0.99


def test_pale_tissue_is_found_beside_dark():
    pixels = glass()
    noise = np.random.default_rng(2).normal(0, 2, (120, 160, 3))
    pale = with_disc(pixels, (60, 50), 28)
    pixels[pale] = np.clip(PALE + noise[pale], 0, 255)
    dark = with_disc(pixels, (60, 125), 24, (110, 60, 140))
    found = stain.build()(pixels, 8.0)
    assert found[pale].mean() > 0.9 and found[dark].mean() > 0.95
    assert found[~(pale | dark)].mean() < 0.05


@pytest.mark.parametrize(
    ("name", "mpp"),
    [
        ("CMU-1-Small-Region.svs", 0.499),
        ("crohn_HE4_20x.tiff", 0.526),
        ("hpylori_HE_20x_nompp.tiff", 0.5),
        ("lymphnode_HE_half.tiff", 1.0),
        ("pdac_trucut_HE3.svs", 0.263),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.5),
    ],
)
def test_stain_finds_what_otsu_finds_and_little_else_but_pale_tissue(
    test_data, name, mpp
):
    slide = open_slide(test_data / "slides" / name)
    thumbnail = read_thumbnail(slide, mpp, 8.0)
    slide.close()
    by_colour = otsu.build()(thumbnail.pixels, mpp * thumbnail.span)
    by_stain = stain.build()(thumbnail.pixels, mpp * thumbnail.span)
    assert by_stain[by_colour].mean() > 0.95
    # The lymph nodes lie in fat, whose strands only one of the two takes for tissue.
    assert by_stain[~by_colour].mean() < (0.12 if name.startswith("lymph") else 0.05)


def star(seed, centre, radius, num=9):
    """A polygon with a hole, corners anywhere."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, num))
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    reach = rng.uniform(0.5, 1, (num, 1)) * radius
    outer = centre + reach * around
    return shapely.make_valid(shapely.Polygon(outer, [centre + 0.3 * reach * around]))


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_mask_is_the_pixels_whose_centre_lies_inside(seed):
    polygons = [star(seed, (60.3, 40.2), 50), star(seed + 9, (5, 70.5), 30)]
    regions = [Region("a", polygons[0]), Region("b", polygons[1])]
    pixels = np.zeros((80, 100, 3), np.uint8)
    found = annotation.build()(pixels, 8.0, regions)
    for row in range(80):
        for col in range(100):
            centre = shapely.Point(col + 0.5, row + 0.5)
            assert found[row, col] == any(p.contains(centre) for p in polygons)
    only = annotation.build(groups=("b",))(pixels, 8.0, regions)
    assert only.any() and (found & ~only).any() and not (only & ~found).any()


def test_absent_groups_are_reported_with_those_present():
    regions = [Region("tumor", shapely.box(0, 0, 9, 9))]
    pixels = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(AnnotationError, match=r"\(tumour\); have tumor"):
        annotation.build(groups=("tumour",))(pixels, 8.0, regions)
    with pytest.raises(AnnotationError, match="have no region at all"):
        annotation.build()(pixels, 8.0, [])
