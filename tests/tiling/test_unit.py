"""One slide in a worker, without Ray: a shard is written whatever fails."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mshisto_ray.store.attempts import Attempts
from mshisto_ray.store.cohort import CohortSlide, slide_to_json
from mshisto_ray.store.shards import read_metadata
from mshisto_ray.store.tiles import shard_path
from mshisto_ray.tiling import unit as tile_unit
from mshisto_ray.tiling.recipe import TilingRecipe


@pytest.fixture
def unit(write_slide, tmp_path):
    write_slide(tmp_path / "a.tiff", 0)
    row = CohortSlide("a", "a", tmp_path / "a.tiff", None, None, {})
    return slide_to_json(row) | {"key": {}}


def tile(unit, out):
    recipe = TilingRecipe(tile_px=64).as_recipe()
    counts = tile_unit.make_tiler(out, recipe)(dict(unit))
    return counts, read_metadata(shard_path(out, "a"))


def test_an_unexpected_error_costs_one_slide(unit, tmp_path, monkeypatch, capfd):
    def fail(*_):
        raise ZeroDivisionError("by a strange header")

    with monkeypatch.context() as patch:
        patch.setattr(tile_unit, "tile_slide", fail)
        counts, metadata = tile(unit, tmp_path)
    assert counts["reasons"] == [["crash", "ZeroDivisionError"]]
    (failure,) = metadata["failures"]
    # The same header gives the same error: trying again is no use.
    assert failure["kind"] == "crash" and failure["error"] == "ZeroDivisionError"
    assert "by a strange header" in failure["message"]
    assert "tiling/unit.py" in capfd.readouterr().err
    counts, metadata = tile(unit, tmp_path)
    assert counts["tiles"] and not metadata["failures"]


def test_sharpness_is_skipped_before_the_slide_fails(unit, tmp_path):
    counts, _ = tile(unit, tmp_path / "first")
    whole = pq.read_table(shard_path(tmp_path / "first", "a"))
    attempts = Attempts(tmp_path / "third", "a")
    for _ in range(2):
        attempts.begin()
    assert tile(unit, tmp_path / "third")[0] == counts
    table = pq.read_table(shard_path(tmp_path / "third", "a"))
    assert table.drop(["focus"]).equals(whole.drop(["focus"]))
    assert not np.isfinite(table["focus"].to_numpy(zero_copy_only=False)).any()
    for _ in range(4):
        attempts.begin()
    (failure,) = tile(unit, tmp_path / "third")[1]["failures"]
    assert (
        failure["kind"] == "crash" and "ended the process 4 times" in failure["message"]
    )
