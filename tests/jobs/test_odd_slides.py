"""Slides as labs have them, through the tile job: nothing is silently wrong."""

import json
import re

import numpy as np
import openslide as raw
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
from fixtures.odd_slides import (
    claim_size,
    drop_tiles,
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


def failures(tiles):
    """(slide, error, mpp, row, col) of every failure."""
    names = ("slide_id", "error", "mpp", "row", "col")
    return {tuple(failure[name] for name in names) for failure in tiles.failures}


def test_fluorescence_and_filler_are_told_apart(tile_slides, tmp_path):
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


def test_levels_whose_sides_disagree_are_not_read(tile_slides, tmp_path):
    plane = on_glass(4099, 3075, 301, 299, 3300, 2400)
    half = shrink(plane, 2)
    padded = np.full((1792, 2304, 3), 243, np.uint8)
    padded[: half.shape[0], : half.shape[1]] = half
    levels = {"sound": half, "padded": padded, "cropped": half[:1280, :1792]}
    tiles = tile_slides(
        {
            name: (write(tmp_path / f"{name}.tif", [plane, level]), {})
            for name, level in levels.items()
        }
    )
    assert not tiles.failures
    expected = planned(tiles, "sound")
    assert len(expected) > 100
    for name, size in (("padded", "2304 x 1792"), ("cropped", "1792 x 1280")):
        assert planned(tiles, name) == expected
        assert f"levels not read: {size}" in tiles.slides[name]["reader_reason"]
        readings = json.loads(tiles.slides[name]["resolution"])
        assert {reading["level"] for reading in readings} == {0}
    assert "not read" not in tiles.slides["sound"]["reader_reason"]


def test_a_padded_level_of_a_square_plane_is_not_read(tile_slides, tmp_path):
    """Its two factors agree, and both are wrong."""
    plane = on_glass(4099, 4099, 301, 299, 3300, 2400)
    half, padded = shrink(plane, 2), np.full((2304, 2304, 3), 243, np.uint8)
    padded[: half.shape[0], : half.shape[1]] = half
    path, sound = (
        write(tmp_path / f"{name}.tif", [plane, level])
        for name, level in (("a", padded), ("b", half))
    )
    tiles = tile_slides({"a": (path, {})})
    assert "levels not read: 2304 x 2304" in tiles.slides["a"]["reader_reason"]
    expected = tile_slides({"a": (sound, {})}, "sound")
    assert planned(tiles, "a") == planned(expected, "a")


def test_a_scan_that_is_all_tissue_has_no_tissue_around_it(tile_slides, tmp_path):
    path = write_scn(tmp_path / "a.scn", [(tissue(1100, 900), 1500, 1800)], 4000, 4000)
    tiles = tile_slides({"a": (path, {})}, scales=[0.5])
    assert not tiles.failures
    assert 6 <= tiles.read("a").num_rows <= 20


def test_a_sound_level_beyond_an_unsound_one_keeps_its_number(tile_slides, tmp_path):
    plane = on_glass(4099, 3075, 301, 299, 3300, 2400)
    half = shrink(plane, 2)
    levels = [plane, half[:1280, :1792], shrink(plane, 4)]
    tiles = tile_slides({"a": (write(tmp_path / "a.tif", levels), {})})
    readings = json.loads(tiles.slides["a"]["resolution"])
    assert [reading["level"] for reading in readings] == [0, 0, 2]


@pytest.mark.parametrize(
    ("file", "table", "said"),
    [
        (0.05, "", "the file gives 0.05 micrometres"),
        (0.079, "", "plausible: 0.08 to 50"),
        (0.5, 0.05, "the cohort gives 0.05 micrometres"),
        (0.5, 40, r"not the magnification \(40x is about 0.25\)"),
        (0.5, 20, r"\(20x is about 0.5\)"),
    ],
)
def test_an_absurd_mpp_is_refused_with_the_fix(
    tile_slides, tmp_path, file, table, said
):
    path = write(tmp_path / "a.tif", [on_glass(1000, 900, 200, 200, 600, 500)], file)
    tiles = tile_slides({"a": (path, {"mpp": table})})
    (failure,) = tiles.failures
    assert (failure["error"], failure["kind"]) == ("AbsurdMpp", "input")
    assert re.search(said, failure["message"])
    assert "cohort's mpp column" in failure["message"]


def test_an_ome_tiff_gives_its_physical_size(tile_slides, tmp_path):
    plane = on_glass(1024, 1024, 200, 200, 600, 600)
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06"><Image ID="Image:0"><Pixels SizeX="1024" SizeY="1024" '
        'PhysicalSizeX="{}" PhysicalSizeY="{}" {}/></Image></OME>'
    )
    nm = 'PhysicalSizeXUnit="nm" PhysicalSizeYUnit="nm"'
    slides = {}
    for name, values in (
        ("um", ("0.5", "0.5", "")),
        ("nm", ("500", "501", nm)),
        ("oblong", ("0.5", "0.7", "")),
    ):
        path = tmp_path / f"{name}.ome.tif"
        tifffile.imwrite(
            path, plane, tile=(256, 256), compression="jpeg", photometric="rgb",
            description=text.format(*values), metadata=None,
        )  # fmt: skip
        assert "openslide.mpp-x" not in raw.OpenSlide(path).properties
        slides[name] = (path, {})
    tiles = tile_slides(slides)
    found = {name: record["mpp"] for name, record in tiles.slides.items()}
    assert found == {"um": 0.5, "nm": pytest.approx(0.5005)}
    assert {f[:2] for f in failures(tiles)} == {("oblong", "NoMpp")}


def test_what_no_scanner_makes_is_refused_before_pixels_are_read(
    tile_slides, tmp_path, monkeypatch
):
    def read(*_):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(raw.OpenSlide, "read_region", read)
    plane = np.full((8192, 8192, 3), 243, np.uint8)
    big = write(tmp_path / "tile.tif", [plane], tile=8192)
    # 245 x 245 native tiles of 4096 px, all of them missing.
    huge = tmp_path / "plane.tif"
    tifffile.imwrite(
        huge, iter([b""] * 245**2), shape=(1_000_000, 1_000_000, 3), dtype=np.uint8,
        tile=(4096, 4096), compression="jpeg", photometric="rgb", bigtiff=True,
    )  # fmt: skip
    assert huge.stat().st_size < 2e6
    sparse = tmp_path / "sparse.tif"
    tifffile.imwrite(
        sparse, iter([b""] * 74**2), shape=(300_000, 300_000, 3), dtype=np.uint8,
        tile=(4096, 4096), compression="jpeg", photometric="rgb", bigtiff=True,
    )  # fmt: skip
    tiles = tile_slides(
        {name.stem: (name, {"mpp": 0.5}) for name in (big, huge, sparse)}
    )
    said = {f["slide_id"]: f["message"] for f in tiles.failures}
    assert {f["error"] for f in tiles.failures} == {"ImplausibleSize"}
    assert {f["kind"] for f in tiles.failures} == {"input"}
    assert "native tiles of 8,192 x 8,192 px" in said["tile"]
    assert "1,000,000 x 1,000,000 px, which no scanner makes" in said["plane"]
    assert "300,000 x 300,000 px" in said["sparse"] and "cannot hold" in said["sparse"]
    assert all("\n" not in message for message in said.values())


def test_a_page_that_claims_more_tiles_than_it_lists_is_openslides(
    tile_slides, tmp_path
):
    plane = on_glass(2048, 2048, 300, 300, 1300, 1300)
    path = write(tmp_path / "a.tif", [plane])
    claim_size(path, 2048, 3000)
    tiles = tile_slides({"a": (path, {})})
    assert not tiles.failures
    record = tiles.slides["a"]
    assert record["reader"] == "openslide"
    assert "96 native tiles claimed, 64 listed" in record["reader_reason"]
