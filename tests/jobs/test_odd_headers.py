"""Headers as labs have them, through the tile job: used, or refused with the fix."""

import json
import re

import numpy as np
import openslide as raw
import pytest
import tifffile
from fixtures.odd_slides import (
    claim_size,
    failures,
    on_glass,
    planned,
    shrink,
    write,
)


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


def test_a_sound_level_beyond_an_unsound_one_keeps_its_number(tile_slides, tmp_path):
    plane = on_glass(4096, 3072, 301, 299, 3300, 2400)
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


def test_a_resolution_that_contradicts_the_file_is_used_and_said(
    tile_slides, tmp_path, capsys
):
    plane = on_glass(1000, 900, 200, 200, 600, 500)
    path = write(tmp_path / "a.tif", [plane])
    other = write(tmp_path / "b.tif", [plane + 1])
    tiles = tile_slides({"a": (path, {"mpp": 0.4}), "b": (other, {"mpp": 0.505})})
    assert {s["mpp"] for s in tiles.slides.values()} == {0.4, 0.505}
    assert {s["mpp_of_file"] for s in tiles.slides.values()} == {0.5}
    said = capsys.readouterr().out
    assert "cohort's mpp is used for 1 slides whose files say another (for" in said
    assert "a: 0.4 um/px, file 0.5)" in said
