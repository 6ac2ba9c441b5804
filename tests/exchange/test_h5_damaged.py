"""Files of features that are damaged, or made to deceive: a failure, or right rows."""

import h5py
import numpy as np
import pytest
from fixtures.h5 import grid, write_h5

from mshisto_ray.exchange.h5 import H5Error, read_h5, width_of
from mshisto_ray.exchange.h5_import import ImportRecipe, import_slide
from mshisto_ray.exchange.import_unit import make_importer
from mshisto_ray.store.cohort import CohortSlide, slide_to_json
from mshisto_ray.store.embeddings import shard_path
from mshisto_ray.store.shards import read_metadata, read_shard, tensor_values

NUM, DIM = 20, 6
RECIPE = ImportRecipe(0.5, 256, None, DIM, "float32", 0.1, False)
FEATURES = np.random.default_rng(0).normal(size=(NUM, DIM)).astype(np.float32)
COORDS = grid(NUM, 10)


def write(path, features=FEATURES, coords=COORDS, **attributes):
    return write_h5(path, features, coords, **attributes)


def imported(path):
    slide = CohortSlide("a", "a", path.with_suffix(".tiff"), None, None, {})
    return import_slide(slide, path, None, RECIPE)


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(FEATURES.tobytes())
    return path


@pytest.mark.parametrize("size", [0, float("nan"), float("inf"), -512])
def test_tiles_of_no_size_are_refused(tmp_path, size):
    path = write(tmp_path / "a.h5", patch_size_level0=size)
    with pytest.raises(H5Error, match="extract it again"):
        imported(path)


def test_embedded_tiles_of_no_pixels_are_refused(tmp_path):
    with pytest.raises(H5Error, match="0 px: no tile is that"):
        imported(write(tmp_path / "a.h5", patch_size=0))


def test_coordinates_of_half_the_scale_are_refused(tmp_path):
    with pytest.raises(H5Error, match="256 px apart, and the file says 512") as error:
        imported(write(tmp_path / "a.h5", coords=COORDS // 2))
    assert error.value.name == "OtherScale"


def test_rows_of_zeros_are_failures(tmp_path):
    values = FEATURES.copy()
    values[[3, 12]] = 0
    table, failures = imported(write(tmp_path / "a.h5", values))
    assert table.num_rows == NUM - 2
    assert [(f.error, f.row, f.col) for f in failures] == [
        ("AllZero", 0, 3), ("AllZero", 1, 2),
    ]  # fmt: skip


def test_a_link_to_another_file_is_not_followed(tmp_path):
    other = write(tmp_path / "other.h5")
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink(other, "/features")
    for read in (read_h5, width_of):
        with pytest.raises(H5Error, match="links to another file"):
            read(path)
    with h5py.File(path, "a") as file:  # hidden behind a link inside
        file["hidden"] = h5py.ExternalLink(other, "/")
        del file["features"]
        file["features"] = h5py.SoftLink("/hidden/features")
    with pytest.raises(H5Error, match="lie in another file"):
        read_h5(path)


def test_raw_storage_outside_is_not_read(tmp_path, secret):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["features"]
        outside = [(str(secret), 0, FEATURES.nbytes)]
        file.create_dataset("features", (NUM, DIM), "f4", external=outside)
    with pytest.raises(H5Error, match="lie in another file") as error:
        read_h5(path)
    assert error.value.name == "OutsideData"


def test_a_virtual_dataset_is_not_read(tmp_path):
    other, path = write(tmp_path / "other.h5"), write(tmp_path / "a.h5")
    layout = h5py.VirtualLayout((NUM, DIM), "f4")
    layout[:] = h5py.VirtualSource(other, "features", (NUM, DIM))
    with h5py.File(path, "a") as file:
        del file["features"]
        file.create_virtual_dataset("features", layout)
    with pytest.raises(H5Error, match="lie in another file"):
        read_h5(path)


def test_terabytes_that_a_header_claims_are_not_allocated(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["features"]
        shape = (10**9, 1000)
        found = file.create_dataset("features", shape, "f4", chunks=(100, 1000))
    with pytest.raises(H5Error, match="holds no values"):
        read_h5(path)
    with h5py.File(path, "a") as file:
        found = file["features"]
        found[:10] = 1
    with pytest.raises(H5Error, match=r"claims 3,725 GiB, more than 16"):
        read_h5(path)
    assert path.stat().st_size < 10**6


def test_gigabytes_that_were_never_written_are_not_read(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["features"]
        shape = (10**6, 1000)
        found = file.create_dataset("features", shape, "f4", chunks=(100, 1000))
        found[:10] = 1
    with pytest.raises(H5Error, match=r"claims 3,815 MiB, of .* 0\.4: most of it was"):
        read_h5(path)


def damaged(whole, rng):
    """A copy of a file with a few bits flipped, or cut short."""
    content = bytearray(whole)
    if rng.random() < 0.2:
        return bytes(content[: rng.integers(len(content))])
    for place in rng.integers(len(content), size=rng.integers(1, 8)):
        content[place] ^= 1 << int(rng.integers(8))
    return bytes(content)


def count_kept(tmp_path, num):
    """How many of damaged files gave rows; each gave its own values, or failures."""
    whole = write(tmp_path / "whole.h5").read_bytes()
    work, rng, kept = make_importer(tmp_path, RECIPE), np.random.default_rng(5), 0
    path = tmp_path / "a.h5"
    row = slide_to_json(CohortSlide("a", "a", tmp_path / "a.tiff", None, None, {}))
    unit = {"slide_id": "a", "row": row, "key": {}, "coordinates": None}
    for _ in range(num):
        path.write_bytes(damaged(whole, rng))
        counts = work(unit | {"features": str(path)})
        assert "unwritten" not in counts
        shard = shard_path(tmp_path, "a", 0)
        failures = read_metadata(shard)["failures"]
        assert {f["kind"] for f in failures} <= {"input"}, failures
        assert counts["tiles"] or failures
        if counts["tiles"]:
            kept += 1
            with h5py.File(path) as file:
                held = {tuple(row) for row in file["features"][:]}
            found = tensor_values(read_shard(shard)["rgb"])
            assert {tuple(row) for row in found} <= held
    return kept


def test_damaged_files_give_failures_or_their_own_values(tmp_path):
    assert 0 < count_kept(tmp_path, 40) < 40


@pytest.mark.slow
def test_many_damaged_files(tmp_path):
    assert 0 < count_kept(tmp_path, 400) < 400
