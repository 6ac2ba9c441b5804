"""The choice of a slide's reader, which changes no row."""

import numpy as np
import pytest
import tifffile

from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.manifest import differences, recipe_digest
from mshisto_ray.tiling.reader import difference
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.slide import tile_slide

RECIPE = TilingRecipe(tile_px=64, scales=(0.5, 1.0))
READERS = [
    ("slides/CMU-1-Small-Region.svs", "native_tiles", "equal to OpenSlide"),
    ("slides/crohn_HE4_20x.tiff", "native_tiles", "equal to OpenSlide"),
    ("slides/hpylori_HE_20x_nompp.tiff", "native_tiles", "equal to OpenSlide"),
    ("slides/lymphnode_HE_half.tiff", "native_tiles", "equal to OpenSlide"),
    ("slides/pdac_trucut_HE3.svs", "native_tiles", "equal to OpenSlide"),
    ("slides/tcga-cr-7395-01a-01-ts1.svs", "openslide", "not JPEG"),
    ("odd/corrupt_tiles_tcga-cr-7395.svs", "openslide", "not JPEG"),
    ("slides/camelyon_multiframe_jpeg.dcm", "openslide", "format dicom"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("reader") / "a.tiff"
    pixels = np.full((768, 1024, 3), 240, np.uint8)
    rng = np.random.default_rng(0)
    pixels[100:600, 100:900] = rng.integers(120, 200, (500, 800, 3)) - [0, 60, 20]
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(
            pixels, tile=(256, 256), photometric="rgb", compression="jpeg",
            resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
        )  # fmt: skip
    return file


def row(path, mpp=None):
    return CohortSlide(path.stem, path.stem, path, mpp, None, {})


def test_the_fast_reader_and_its_reason_are_recorded(path):
    record = tile_slide(row(path), RECIPE).record
    assert record["reader"] == "native_tiles"
    assert "equal to OpenSlide" in record["reader_reason"]
    scaled = RECIPE.model_copy(update={"pixels": "scaled"})
    assert tile_slide(row(path), scaled).record["reader"] == "scaled_tiles"


class Wrong:
    """A slide of which one corner of every region is a grey level off."""

    def __init__(self, slide):
        self._slide = slide
        self.levels, self.mpp = slide.levels, slide.mpp
        self.vendor, self.objective = slide.vendor, slide.objective
        self.close = slide.close

    def read(self, level, x, y, width, height):
        region = self._slide.read(level, x, y, width, height)
        region[0, 0, 0] ^= 1
        return region


def test_one_wrong_pixel_means_openslide_and_the_same_rows(path):
    def open_wrong(path, reader="openslide"):
        slide = open_slide(path, reader)
        return slide if reader == "openslide" else Wrong(slide)

    tiled = tile_slide(row(path), RECIPE, open_wrong)
    assert tiled.record["reader"] == "openslide"
    reason = tiled.record["reader_reason"]
    assert reason.startswith("native_tiles differs from OpenSlide at level 0, x ")
    expected = tile_slide(row(path), RECIPE)
    differing = {k for k in expected.record if expected.record[k] != tiled.record[k]}
    assert differing == {"reader", "reader_reason"}
    assert tiled.tiles == expected.tiles


def test_a_reader_that_is_named_is_used_and_not_compared(path):
    for name in ("openslide", "native_tiles"):
        recipe = TilingRecipe(tile_px=64, scales=(0.5, 1.0), reader=name)
        record = tile_slide(row(path), recipe).record
        assert (record["reader"], record["reader_reason"]) == (
            name,
            "named in the config",
        )
    with pytest.raises(ValueError, match="no 'osl' in slides; have flat_image, "):
        TilingRecipe(reader="osl")


def test_directories_made_before_the_key_are_gone_on_with():
    assert "reader" not in RECIPE.as_recipe()
    # The digest of this recipe when there was no such key.
    assert recipe_digest(RECIPE.as_recipe()) == "f9abdc37aa529e11864bfd0636d8576b"
    named = TilingRecipe(tile_px=64, scales=(0.5, 1.0), reader="openslide")
    assert differences(RECIPE.as_recipe(), named.as_recipe()) == [
        "reader: absent -> 'openslide'"
    ]
    assert TilingRecipe(**named.as_recipe()) == named


@pytest.mark.parametrize(("name", "reader", "reason"), READERS)
def test_real_slides(test_data, name, reader, reason):
    path = test_data / name
    scales = (32.0,) if name.endswith("dcm") else (0.5, 1.0, 2.0)
    recipe = TilingRecipe(
        scales=scales, tissue_threshold=0.05, tile_px=64 if "dcm" in name else 256
    )
    record = tile_slide(row(path, None if "dcm" in name else 0.5), recipe).record
    assert record["reader"] == reader
    assert reason in record["reader_reason"]


@pytest.mark.parametrize("name", [n for n, r, _ in READERS if r == "native_tiles"])
def test_real_slides_are_openslides_pixels_at_every_native_level(test_data, name):
    path = test_data / name
    slide = open_slide(path)
    rng = np.random.default_rng(0)
    size = (slide.levels[0].width, slide.levels[0].height)
    places = [tuple(int(v) for v in rng.integers(0, size)) for _ in range(40)]
    edge = (size[0] - 100, size[1] - 100)
    assert difference(path, "native_tiles", [*places, (0, 0), edge], open_slide) is None
