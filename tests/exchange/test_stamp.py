"""Files as STAMP 2 writes them: `feats`, and `coords` in micrometres.

The layout is that of `extract_` in src/stamp/preprocessing of KatherLab/STAMP: places
are float32, features float16, and attributes of the file describe the tiles
(`tile_size_um` since 2.1, `tile_size` with `unit` before).
"""

import h5py
import numpy as np
import pytest
import tifffile

from mshisto_ray.exchange.h5 import H5Error, read_h5, width_of
from mshisto_ray.exchange.h5_import import ImportRecipe, import_slide
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.shards import tensor_values

MPP, SIDE_UM, SIDE_PX = 0.2631, 128.0, 224
RECIPE = ImportRecipe(SIDE_UM / SIDE_PX, SIDE_PX, None, 6, "float32", 0.01, True)
NEWER = {"tile_size_um": SIDE_UM, "tile_size_px": SIDE_PX, "feat_type": "tile"}
OLDER = {"tile_size": SIDE_UM, "tile_size_px": SIDE_PX}


def write(path, attributes, coords, values):
    common = {
        "stamp_version": "2.3.0", "extractor": "mahmood-uni", "unit": "um",
        "code_hash": "0123abcd",
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file["coords"] = coords
        file["feats"] = values
        file.attrs.update(common | attributes)
    return path


@pytest.fixture
def tiles():
    """Places in micrometres, in the order of threads, and features."""
    line, col = np.divmod(np.random.default_rng(1).permutation(20), 5)
    values = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float16)
    return line, col, (np.stack([col, line], 1) * SIDE_UM).astype(np.float32), values


def slide_of(tmp_path, mpp=None):
    path, per_cm = tmp_path / "a.tiff", 1e4 / MPP
    tifffile.imwrite(
        path, np.full((2048, 2560, 3), 230, np.uint8), tile=(256, 256),
        photometric="rgb", compression="jpeg", resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    return CohortSlide("a", "a", path, mpp, None, {})


@pytest.mark.parametrize("attributes", [NEWER, OLDER], ids=["2.1", "2.0"])
@pytest.mark.parametrize("with_slide", [True, False])
def test_places_become_level_0_pixels(tmp_path, tiles, attributes, with_slide):
    line, col, places, values = tiles
    path = write(tmp_path / "a.h5", attributes, places, values)
    assert width_of(path) == 6
    recipe = RECIPE if with_slide else ImportRecipe(
        RECIPE.mpp, SIDE_PX, None, 6, "float32", 0.01, False
    )  # fmt: skip
    row = slide_of(tmp_path, None if with_slide else MPP)
    table, failures = import_slide(row, path, None, recipe)
    assert not failures
    order = np.lexsort((col, line))
    np.testing.assert_array_equal(table["row"], line[order])
    np.testing.assert_array_equal(table["col"], col[order])
    exact = places[order] / MPP
    found = np.stack([table["x"], table["y"]], 1)
    assert np.abs(found - exact).max() <= 0.5 + 1e-3
    np.testing.assert_allclose(table["extent"], SIDE_UM / MPP)
    np.testing.assert_array_equal(tensor_values(table["rgb"]), values[order])


def test_another_size_or_scale_than_named_is_refused(tmp_path, tiles):
    _, _, places, values = tiles
    path = write(tmp_path / "a.h5", NEWER | {"tile_size_px": 512}, places, values)
    with pytest.raises(H5Error, match=r"tiles of 512 px, tile_px is 224"):
        import_slide(slide_of(tmp_path), path, None, RECIPE)
    path = write(tmp_path / "a.h5", NEWER, places, values)
    other = ImportRecipe(0.5, SIDE_PX, None, 6, "float32", 0.01, True)
    with pytest.raises(H5Error, match=r"is 0\.5714 um/px at 224 px, not 0\.5"):
        import_slide(slide_of(tmp_path), path, None, other)


def test_without_the_slides_resolution_it_is_one_line(tmp_path, tiles):
    _, _, places, values = tiles
    path = write(tmp_path / "a.h5", NEWER, places, values)
    recipe = ImportRecipe(RECIPE.mpp, SIDE_PX, None, 6, "float32", 0.01, False)
    with pytest.raises(H5Error, match="places are in micrometres: give the slide's"):
        import_slide(slide_of(tmp_path), path, None, recipe)


@pytest.mark.parametrize("wrong", [np.nan, -5.0])
def test_places_that_are_none_are_refused(tmp_path, tiles, wrong):
    _, _, places, values = tiles
    places[3, 0] = wrong
    path = write(tmp_path / "a.h5", NEWER, places, values)
    with pytest.raises(H5Error, match="coords are no places in um"):
        read_h5(path)


def test_the_first_version_is_refused(tmp_path, tiles):
    """Places in 256 um of 224, and no attribute that says so."""
    _, _, places, values = tiles
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["coords"], file["feats"] = places + 0.5, values
    with pytest.raises(H5Error, match="not whole, non-negative level-0 pixels"):
        read_h5(path)
