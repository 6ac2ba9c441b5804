import numpy as np
import pytest
from fixtures.thumbnails import glass, with_disc

from mshisto_ray.slides import open_slide
from mshisto_ray.tiling.thumbnail import read_thumbnail
from mshisto_ray.tiling.tissue_masks import otsu, stain

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
