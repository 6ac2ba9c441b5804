"""Sparse MIRAX slides, through tile and embed: what no image holds is clear."""

import numpy as np
import openslide as raw
import pyarrow.parquet as pq
import pytest
from fixtures.mirax import write_mirax
from fixtures.odd_slides import drop_tiles, on_glass, planned, shrink, write

from mshisto_ray import config as configs
from mshisto_ray.jobs import embed


def embedded(tiles, out):
    given = {"tiles": str(tiles.path), "out": str(out)}
    given |= {"encoder": {"name": "colour_stats"}}
    embed.run(configs.validate(embed.EmbedConfig, given))
    rows = [
        row
        for path in (out / "shards").rglob("*.parquet")
        for row in pq.read_table(path, columns=["mpp", "row", "col"]).to_pylist()
    ]
    found = pq.read_table(out / "failures.parquet").to_pylist()
    return {tuple(row.values()) for row in rows}, found


def test_missing_images_are_failures_on_tissue_and_harmless_on_glass(
    tile_slides, tmp_path
):
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    # In tissue, and on glass; of one place no level holds an image.
    lost = {(0, 3, 3), (0, 0, 0), (0, 7, 7), (1, 3, 3)}
    sparse = write_mirax(tmp_path / "a.mrxs", plane, missing=lost)
    whole = write_mirax(tmp_path / "b.mrxs", plane)
    with raw.OpenSlide(sparse) as slide:
        assert slide.properties["openslide.vendor"] == "mirax"
        alpha = np.asarray(slide.read_region((0, 0), 0, (2048, 2048)))[..., 3]
    assert (alpha[768:1024, 768:1024] == 0).all() and alpha[600, 600] == 255
    tiles = tile_slides({"a": (sparse, {})}, scales=[0.5, 1.0])
    expected = tile_slides({"b": (whole, {})}, "whole", scales=[0.5, 1.0])
    assert not expected.failures
    rows, found = embedded(tiles, tmp_path / "embeddings")
    found += list(tiles.failures)
    assert {(f["error"], f["kind"]) for f in found} == {("MissingPixels", "input")}
    fine = {(f["row"], f["col"]) for f in found if f["mpp"] == 0.5}
    assert fine == {(3, 3)}
    want, _ = embedded(expected, tmp_path / "whole_embeddings")
    lost = {(f["mpp"], f["row"], f["col"]) for f in found}
    assert len(want) > 30 and rows == want - lost
    assert planned(tiles, "a") <= planned(expected, "b")


def test_an_image_that_no_level_holds_is_no_glass(tile_slides, tmp_path):
    """In the middle of tissue; the coarser levels are made of what was scanned."""
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    lost = {(0, r, c) for r in (2, 3) for c in (2, 3)} | {(1, 1, 1)}
    path = write_mirax(tmp_path / "a.mrxs", plane, num_levels=2, missing=lost)
    tiles = tile_slides({"a": (path, {})}, scales=[0.5])
    rows, found = embedded(tiles, tmp_path / "embeddings")
    found += list(tiles.failures)
    assert {f["error"] for f in found} == {"MissingPixels"}
    places = {(f["row"], f["col"]) for f in found}
    assert places == {(2, 2), (2, 3), (3, 2), (3, 3)}
    assert len(rows) > 15 and not {row[1:] for row in rows} & places


@pytest.mark.parametrize("kind", ["tif", "mrxs"])
def test_tissue_that_only_the_coarse_level_lacks_is_tiled(tile_slides, tmp_path, kind):
    """The thumbnail is read from a coarse level: what that lacks, a finer one holds."""
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    # At the edge of the tissue: no hole in it.
    levels = [plane, shrink(plane, 4)]
    if kind == "tif":
        whole, path = (
            write(tmp_path / f"{name}.tif", levels, tile=64) for name in "ba"
        )
        drop_tiles(path, [(r, c) for r in range(4, 8) for c in range(4, 8)], level=1)
    else:
        whole = write_mirax(tmp_path / "b.mrxs", plane)
        path = write_mirax(tmp_path / "a.mrxs", plane, missing={(2, 1, 1)})
    tiles = tile_slides({"a": (path, {})}, scales=[0.5])
    expected = tile_slides({"b": (whole, {})}, "whole", scales=[0.5])
    assert not tiles.failures
    assert len(planned(expected, "b")) > 20
    assert planned(tiles, "a") == planned(expected, "b")
