"""Files as TRIDENT and CLAM write them, written here by hand, and back."""

import h5py
import numpy as np
import pytest
import tifffile

from mshisto_ray.exchange.h5 import H5Error, H5Features, TileShape, read_h5, write_h5
from mshisto_ray.exchange.h5_export import to_features
from mshisto_ray.exchange.h5_import import ImportRecipe, cells, import_slide
from mshisto_ray.store.cohort import CohortSlide
from mshisto_ray.store.embeddings import TileEmbeddings
from mshisto_ray.store.shards import tensor_values

RECIPE = ImportRecipe(0.5, 256, None, 6, "float32", 0.1, True)
TRIDENT = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40,
    "target_magnification": 20, "overlap": 0, "name": "a", "savetodir": "/x",
}  # fmt: skip
CLAM = {
    "patch_size": 256, "patch_level": 1, "downsample": (2.0, 2.0), "name": "a",
    "downsampled_level_dim": (2000, 1500), "level_dim": (2000, 1500), "save_path": "x",
}  # fmt: skip


def write(path, values, coords, attributes=None):
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values)
        file.create_dataset("coords", data=coords).attrs.update(attributes or {})
    return path


def drawn(num, dim=6, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=(num, dim)).astype(dtype)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """4000 x 3000 px at 0.25 um/px."""
    path = tmp_path_factory.mktemp("slides") / "a.tiff"
    tifffile.imwrite(
        path, np.full((3000, 4000, 3), 230, np.uint8), tile=(256, 256),
        photometric="rgb", compression="jpeg", resolution=(40000, 40000),
        resolutionunit="CENTIMETER",
    )  # fmt: skip
    return CohortSlide("a", "a", path, None, None, {})


def grid(step, rows=4, cols=5):
    line, col = np.divmod(np.random.default_rng(1).permutation(rows * cols), cols)
    return np.stack([col, line], 1) * step


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_trident_tiles_keep_values_and_places(tmp_path, slide, dtype):
    coords, values = grid(512), drawn(20, dtype=dtype)
    path = write(tmp_path / "a.h5", values, coords, TRIDENT)
    table, failures = import_slide(slide, path, None, RECIPE)
    assert not failures and table.num_rows == 20
    by_place = dict(zip(map(tuple, coords.tolist()), values, strict=True))
    found = tensor_values(table.combine_chunks()["rgb"])
    rows = table.select(["x", "y", "row", "col", "extent", "own"]).to_pylist()
    for value, row in zip(found, rows, strict=True):
        np.testing.assert_array_equal(value, by_place[row["x"], row["y"]])
        assert (row["col"] * 512, row["row"] * 512) == (row["x"], row["y"])
        assert row["extent"] == 512.0 and row["own"]
    place = [(row["row"], row["col"]) for row in rows]
    assert place == sorted(place)


def test_tiles_that_overlap_have_a_finer_grid(tmp_path, slide):
    coords = grid(256, 6, 7)
    described = TRIDENT | {"overlap": 128}
    path = write(tmp_path / "a.h5", drawn(42), coords, described)
    table, failures = import_slide(slide, path, None, RECIPE)
    assert not failures
    assert (table["row"].to_numpy() * 256 == table["y"].to_numpy()).all()
    assert table["extent"].to_numpy()[0] == 512.0


def test_clam_contours_have_grids_of_their_own(tmp_path, slide):
    # Features without attributes; the file of coordinates has them.
    first = grid(512, 2, 3) + np.array([37, 911])
    second = grid(512, 2, 2) + np.array([37 + 3 * 512 + 60, 911 + 101])
    coords = np.concatenate([first, second])
    path = write(tmp_path / "a.h5", drawn(10), coords)
    with pytest.raises(H5Error, match=r"give `coordinates`.*or `extent`"):
        import_slide(slide, path, None, RECIPE)
    patches = tmp_path / "patches.h5"
    with h5py.File(patches, "w") as file:
        file.create_dataset("coords", data=coords).attrs.update(CLAM)
    table, failures = import_slide(slide, path, patches, RECIPE)
    assert not failures and table.num_rows == 10
    found = set(zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True))
    assert found == set(map(tuple, coords.tolist()))
    by_hand = ImportRecipe(0.5, 256, 512.0, 6, "float32", 0.1, True)
    again, _ = import_slide(slide, path, None, by_hand)
    unknown = ["tissue"]  # NaN
    assert again.drop_columns(unknown).equals(table.drop_columns(unknown))


def test_cells_are_the_nearest_and_each_has_one_tile():
    x, y = np.array([0, 100, 149, 151, 60]), np.array([0, 0, 0, 0, 30])
    line, col, is_kept = cells(x, y, 100.0)
    assert line.tolist() == [0, 0, 0, 0, 0]
    assert col.tolist() == [0, 1, 1, 2, 1]
    assert is_kept.tolist() == [True, True, False, True, False]
    # Coordinates rounded from a fractional step keep their cells.
    true = np.arange(400)
    line, col, is_kept = cells(np.rint(true * 486.69), np.zeros(400), 486.69)
    assert is_kept.all() and (col == true).all()


def test_a_tile_without_a_cell_of_its_own_is_reported(tmp_path, slide):
    coords = np.array([[0, 0], [512, 0], [600, 0]])
    path = write(tmp_path / "a.h5", drawn(3), coords, TRIDENT)
    table, (failure,) = import_slide(slide, path, None, RECIPE)
    assert table["x"].to_pylist() == [0, 512]
    assert (failure.error, failure.row, failure.col) == ("SharedCell", 0, 1)
    assert "tile at x 600, y 0" in failure.message


def test_values_that_half_precision_cannot_hold_are_reported(tmp_path, slide):
    values = drawn(3)
    values[1, 2] = 1e6
    path = write(tmp_path / "a.h5", values, grid(512, 1, 3), TRIDENT)
    half = ImportRecipe(0.5, 256, None, 6, "float16", 0.1, True)
    table, (failure,) = import_slide(slide, path, None, half)
    assert table.num_rows == 2 and failure.error == "NotFinite"


@pytest.mark.parametrize(
    ("error", "changes", "move", "num"),
    [
        ("OutsideSlide", {}, 4000, 20),
        ("OtherScale", {"patch_size_level0": 256}, 0, 20),
        ("OtherTileSize", {"patch_size": 224}, 0, 20),
        ("BadPlaces", {}, -1, 20),
        ("BadPlaces", {}, 0.5, 20),
        ("NoTiles", {}, 0, 0),
    ],
)
def test_files_that_do_not_fit_the_slide_are_refused(
    tmp_path, slide, error, changes, move, num
):
    coords = grid(512)[:num] + move
    path = write(tmp_path / "a.h5", drawn(num), coords, TRIDENT | changes)
    with pytest.raises(H5Error, match=r"^a\.h5: ") as caught:
        import_slide(slide, path, None, RECIPE)
    assert caught.value.name == error


@pytest.mark.parametrize(
    ("values", "coords"),
    [
        (drawn(4).astype(np.float64), grid(512, 2, 2)),
        (drawn(4), grid(512, 1, 3)),
        (drawn(4)[0], grid(512, 2, 2)),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused(tmp_path, values, coords):
    path = write(tmp_path / "a.h5", values, coords, TRIDENT)
    with pytest.raises(H5Error, match=r"^a\.h5: "):
        read_h5(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(H5Error, match=r"^a\.h5: no HDF5 file with `features`"):
        read_h5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("features", data=drawn(2))
    with pytest.raises(H5Error, match="no HDF5 file with `features` and `coords`"):
        read_h5(tmp_path / "b.h5")


def test_a_batch_axis_of_one_slide_is_taken_off(tmp_path):
    path = write(tmp_path / "a.h5", drawn(6)[None], grid(512, 2, 3)[None], TRIDENT)
    found = read_h5(path)
    np.testing.assert_array_equal(found.values, drawn(6))
    np.testing.assert_array_equal(found.x, grid(512, 2, 3)[:, 0])


@pytest.mark.parametrize("layout", ["trident", "clam"])
@pytest.mark.parametrize(("extent", "step"), [(512.0, 512.0), (486.69, 486.69)])
def test_what_is_written_reads_back(tmp_path, layout, extent, step):
    x, y = np.rint(grid(step)).astype(np.int64).T
    given = H5Features(x, y, drawn(20, dtype=np.float16), TileShape(extent, step, 256))
    write_h5(tmp_path / "out" / "a.h5", "a", given, 0.5, layout, "there")
    found = read_h5(tmp_path / "out" / "a.h5")
    for name in ("x", "y", "values"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    assert found.values.dtype == np.float16 and found.shape
    assert (found.shape.extent, found.shape.step) == (extent, step)
    with h5py.File(tmp_path / "out" / "a.h5") as file:
        described = dict(file["coords"].attrs)
    if layout == "trident":
        assert (described["patch_size"], described["overlap"]) == (256, 0)
        assert described["patch_size_level0"] == round(extent)
        assert described["target_magnification"] == 20
        side = 256 * described["level0_magnification"] / 20
        assert side == pytest.approx(extent)
    else:
        assert described["patch_level"] == 0
        assert described["patch_size"] == round(extent)


def test_overlap_comes_back_from_the_places():
    line, col = np.divmod(np.arange(24), 6)
    num = np.ones(24)
    tiles = TileEmbeddings(
        "a", num, line, col, col * 384, line * 384, num * 512, num, num > 0, drawn(24)
    )
    shape = to_features(tiles, 256).shape
    assert shape == TileShape(512.0, 384.0, 256)
