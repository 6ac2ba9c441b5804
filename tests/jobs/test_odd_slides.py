"""Slides as labs have them, through the tile job: nothing is silently wrong."""

import json

import numpy as np
import openslide as raw
import pyarrow.parquet as pq
import shapely
from fixtures.dicom import write_series
from fixtures.odd_slides import (
    drop_tiles,
    failures,
    feature,
    on_glass,
    planned,
    shrink,
    tissue,
    write,
    write_scn,
)

from mshisto_ray import config as configs
from mshisto_ray.jobs import embed
from mshisto_ray.store.fingerprint import slide_fingerprint


def test_fluorescence_is_refused_and_filler_is_not(tile_slides, tmp_path):
    grain = tissue(1400, 1000)
    blue = np.zeros((2000, 2600, 3), np.uint8)
    blue[400:1400, 500:1900, 2] = grain.mean(2)
    grey = np.zeros((2000, 2600, 3), np.uint8)
    grey[400:1400, 500:1900] = (np.random.default_rng(0).random((1000, 1400, 1)) ** 4
                                * 255)  # fmt: skip
    filler = np.zeros((6000, 9000, 3), np.uint8)
    filler[3000:5000, 3500:6500] = on_glass(3000, 2000, 400, 300, 1900, 1300)
    tiles = tile_slides(
        {
            "clear": (
                write_scn(tmp_path / "a.scn", [(blue, 3000, 5000)], 7000, 9000),
                {},
            ),
            "blue": (write(tmp_path / "b.tif", [blue, shrink(blue, 4)]), {}),
            "grey": (write(tmp_path / "g.tif", [grey, shrink(grey, 4)]), {}),
            "filled": (write(tmp_path / "f.tif", [filler, shrink(filler, 4)]), {}),
        }
    )
    none = (None, None, None)
    names = ("clear", "blue", "grey")
    assert failures(tiles) == {(name, "NotBrightField", *none) for name in names}
    table = tiles.read("filled")
    own = table.filter(table["own"])
    x, y = own["x"].to_numpy(), own["y"].to_numpy()
    side = own["extent"].to_numpy()
    # At least half of each own tile lies in the tissue, none is made of filler.
    tissue_box = shapely.box(3900, 3300, 5800, 4600)
    boxes = shapely.box(x, y, x + side, y + side)
    shares = shapely.area(shapely.intersection(boxes, tissue_box)) / side**2
    assert len(own) > 40 and shares.min() > 0.4


def test_tissue_that_the_file_lacks_is_a_failure_of_its_tiles(tile_slides, tmp_path):
    plane = on_glass(4096, 3072, 600, 600, 2200, 1500)
    path = write(tmp_path / "a.tif", [plane, shrink(plane, 4)])
    # In tissue, and on glass.
    drop_tiles(path, [(r, c) for r in (4, 5) for c in (5, 6)] + [(0, 0), (11, 15)])
    whole = write(tmp_path / "b.tif", [plane, shrink(plane, 4)])
    tiles, expected = (
        tile_slides({"a": (path, {})}),
        tile_slides({"a": (whole, {})}, "whole"),
    )
    fine = {("a", "MissingPixels", 0.5, r, c) for r in (4, 5) for c in (5, 6)}
    coarse = {("a", "MissingPixels", 1.0, 2, c) for c in (2, 3)}
    assert failures(tiles) == fine | coarse
    assert {failure["kind"] for failure in tiles.failures} == {"input"}
    lost = {(mpp, row, col) for _, _, mpp, row, col in fine | coarse}
    kept = planned(tiles, "a")
    assert kept == {t for t in planned(expected, "a") if t[:3] not in lost}
    counts = dict(tiles.slides["a"]["tiles_per_scale"])
    assert sum(counts.values()) == len(kept)


def test_an_outline_over_what_was_not_scanned(tile_slides, tmp_path):
    """Said to be tissue, its tiles are failures and not white."""
    area = on_glass(1200, 1000, 0, 0, 1200, 1000)
    places = [(area, 500, 500), (area, 500, 2500)]
    path = write_scn(tmp_path / "a.scn", places, 2500, 4000)
    ring = [[100, 100], [1000, 100], [1000, 2900], [100, 2900], [100, 100]]
    drawn = tmp_path / "a.geojson"
    drawn.write_text(json.dumps(feature(ring, name="tumour")))
    cells = {"annotation": drawn}
    tiles = tile_slides(
        {"a": (path, cells)}, scales=[0.5], tissue={"name": "annotation"}
    )
    assert len(tiles.failures) > 15
    assert {f[1] for f in failures(tiles)} == {"MissingPixels"}
    slide = raw.OpenSlide(path)
    for x, y in planned(tiles, "a", "x", "y"):
        held = np.asarray(slide.read_region((x, y), 0, (256, 256)))[..., 3] > 0
        centres = np.arange(256) + 0.5
        inside = np.add.outer(
            1000 * ((y + centres < 600) | (y + centres > 3400)),
            1000 * ((x + centres < 600) | (x + centres > 1500)),
        )
        assert (held | (inside > 0)).mean() > 0.9
    assert planned(tiles, "a")


def test_a_hole_in_every_level_is_no_glass(tile_slides, tmp_path):
    """What lies in the middle of tissue and is nowhere in the file may be tissue."""
    plane = on_glass(4096, 3072, 600, 600, 2200, 1500)
    path = write(tmp_path / "a.tif", [plane, shrink(plane, 4)], tile=64)
    drop_tiles(path, [(r, c) for r in range(16, 24) for c in range(20, 28)])
    drop_tiles(path, [(r, c) for r in range(4, 6) for c in range(5, 7)], level=1)
    tiles = tile_slides({"a": (path, {})})
    fine = {f[3:] for f in failures(tiles) if f[2] == 0.5}
    assert fine == {(r, c) for r in (4, 5) for c in (5, 6)}
    kept = {t[:3] for t in planned(tiles, "a")}
    assert not kept & {(0.5, *place) for place in fine}


def test_what_an_older_plan_has_of_missing_tissue_is_not_embedded(
    tile_slides, tmp_path
):
    """Planned when the file held it, as by a version that did not look."""
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    path = write(tmp_path / "a.tif", [plane])
    tiles = tile_slides({"a": (path, {})})
    drop_tiles(path, [(3, 3)])
    record = dict(tiles.slides["a"])
    table = pq.read_table(tiles.path / "slides.parquet")
    index = table.schema.get_field_index("fingerprint")
    changed = [[slide_fingerprint(path)]]
    table = table.set_column(index, table.schema.field(index), changed)
    pq.write_table(table, tiles.path / "slides.parquet")
    given = {
        "tiles": str(tiles.path),
        "out": str(tmp_path / "embeddings"),
        "encoder": {"name": "colour_stats"},
    }
    embed.run(configs.validate(embed.EmbedConfig, given))
    found = pq.read_table(tmp_path / "embeddings" / "failures.parquet").to_pylist()
    assert {(f["error"], f["mpp"], f["row"], f["col"]) for f in found} == {
        ("MissingPixels", 0.5, 3, 3)
    }
    assert record["fingerprint"] != changed[0][0]


def test_a_scan_that_is_all_tissue_has_no_tissue_around_it(tile_slides, tmp_path):
    path = write_scn(tmp_path / "a.scn", [(tissue(1100, 900), 1500, 1800)], 4000, 4000)
    tiles = tile_slides({"a": (path, {})}, scales=[0.5])
    assert not tiles.failures
    assert 6 <= tiles.read("a").num_rows <= 20


def embedded(tiles, tmp_path):
    """Places that were embedded, and the failures of doing so."""
    given = {
        "tiles": str(tiles.path),
        "out": str(tmp_path / "embeddings"),
        "encoder": {"name": "colour_stats"},
    }
    embed.run(configs.validate(embed.EmbedConfig, given))
    shards = (tmp_path / "embeddings" / "shards").rglob("*.parquet")
    names = ["mpp", "row", "col", "x", "y", "extent"]
    rows = [
        row for path in shards for row in pq.read_table(path, columns=names).to_pylist()
    ]
    return rows, pq.read_table(tmp_path / "embeddings" / "failures.parquet").to_pylist()


def test_a_sparse_dicom_that_lacks_tissue_at_its_finest_level(tile_slides, tmp_path):
    """It has no list of its native tiles: what is missing shows when it is read."""
    plane = on_glass(2048, 1536, 300, 300, 1300, 900)
    # In tissue, on glass beside tissue, and on glass alone.
    lost = [(2, 3), (1, 0), (5, 7)]
    path = write_series(tmp_path / "series", [plane, shrink(plane, 4)], missing=lost)
    tiles = tile_slides({"a": (path, {})}, tile_px=224, scales=[0.5, 1.0])
    assert not tiles.failures
    rows, found = embedded(tiles, tmp_path)
    assert {(f["error"], f["kind"]) for f in found} == {("MissingPixels", "input")}
    assert "of this tile, which are tissue on a coarser level" in found[0]["message"]
    hole = shapely.box(768, 512, 1024, 768)

    def touches(x, y, side):
        return shapely.box(x, y, x + side, y + side).intersection(hole).area > 0

    places = planned(tiles, "a", "mpp", "row", "col", "x", "y", "extent")
    assert {(f["mpp"], f["row"], f["col"]) for f in found} == {
        place[:3] for place in places if touches(*place[3:])
    }
    assert len(rows) == len(places) - len(found) > 10
    beside_glass = [row for row in rows if row["x"] < 256 and 256 < row["y"] < 512]
    assert beside_glass


def test_part_of_a_tile_that_an_older_plan_did_not_miss(tile_slides, tmp_path):
    """A native tile of a quarter of its side, gone after the tiles were planned."""
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    path = write(tmp_path / "a.tif", [plane, shrink(plane, 4)], tile=64)
    tiles = tile_slides({"a": (path, {})}, scales=[0.5])
    # In tissue, on glass, and where a third is tissue.
    drop_tiles(path, [(13, 14), (0, 5), (12, 4)])
    table = pq.read_table(tiles.path / "slides.parquet")
    index = table.schema.get_field_index("fingerprint")
    now = table.set_column(
        index, table.schema.field(index), [[slide_fingerprint(path)]]
    )
    pq.write_table(now, tiles.path / "slides.parquet")
    rows, found = embedded(tiles, tmp_path)
    shares = {(f["row"], f["col"]): f["message"].split("this tile")[0] for f in found}
    lacks = "the file holds no pixels for at least {}% of "
    # 64 x 64 and, right of x = 300, 20 x 64 pixels of 256 x 256, but for their edge.
    assert shares == {(3, 3): lacks.format(5), (3, 1): lacks.format(2)}
    assert len(rows) == len(planned(tiles, "a")) - 2
