"""``--check`` of tile and embed: what it prints, against what the jobs then do."""

import re

import numpy as np
import pytest
import yaml

from mshisto_ray import config as configs
from mshisto_ray.jobs import _tile_check, embed, tile
from mshisto_ray.jobs._estimate import duration, milliseconds, rounded, size, spread
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.recipe import TilingRecipe


@pytest.fixture(scope="module")
def slides(tmp_path_factory, write_slide):
    folder = tmp_path_factory.mktemp("check")
    for i in range(3):
        write_slide(folder / f"s{i}.tiff", i, size=(700 + 100 * i, 700))
    (folder / "broken.svs").write_bytes(b"not a slide")
    (folder / "good.csv").write_text("path\ns0.tiff\ns1.tiff\ns2.tiff\n")
    (folder / "mixed.csv").write_text(
        "path,patient_id,mpp\ns0.tiff,p0,\ns1.tiff,p0,40\ns2.tiff,p1,0.9\nbroken.svs,p2,\n"
    )
    return folder


def inspect(slides, table, capsys, out, **changes):
    raw = {"cohort": str(slides / table), "out": str(out), "tile_px": 64}
    config = configs.validate(tile.TileConfig, raw | {"focus_mpp": None} | changes)
    code = tile.inspect(config)
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) is None  # all of it comments
    assert not out.exists()
    return code, printed.replace("# ", ""), config


def test_good_slides_are_listed_and_their_tiles_expected(
    slides, capsys, tmp_path, make_tiles
):
    code, printed, config = inspect(slides, "good.csv", capsys, tmp_path / "out")
    assert code == 0
    assert re.search(r"\ns1 +s1 +ok +0.5 \(file\)", printed)
    assert "3 slides of 3 patients: 3 ok, 0 with a warning, 0 refused" in printed
    made = TileDirectory(make_tiles(config.cohort, config.recipe, tmp_path / "tiles"))
    counts = {0.5: 0, 1.0: 0, 2.0: 0}
    for record in made.slides.values():
        for mpp, num in record["tiles_per_scale"]:
            counts[mpp] += num
    # All three are probed, so the expectation is what tiling gives.
    total = sum(counts.values())
    assert f"tiles: {rounded(total)}: {rounded(counts[0.5])} at 0.5" in printed
    for said in (
        "tiling: ",
        "on disk: ",
        "embeddings: ",
        "rests on: ",
        "reading takes",
    ):
        assert said in printed


def test_refused_slides_and_warnings_have_their_reason(slides, capsys, tmp_path):
    code, printed, _ = inspect(slides, "mixed.csv", capsys, tmp_path / "out")
    assert code == 2
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert "refused" in lines["s1"] and "not the magnification" in lines["s1"]
    assert "refused" in lines["broken"] and "NotASlide" in lines["broken"]
    assert "warning" in lines["s2"] and "lacks the scales 0.5 um/px" in lines["s2"]
    assert "the cohort gives 0.9 um/px, the file 0.5" in lines["s2"]
    assert "4 slides of 3 patients: 1 ok, 1 with a warning, 2 refused" in printed
    assert "patients without a usable slide: 1" in printed
    assert "2 from the file" not in printed and "2 from the cohort" in printed


def test_slides_that_only_tiling_refuses_are_found_by_the_probe(
    slides, capsys, tmp_path
):
    code, printed, _ = inspect(
        slides, "good.csv", capsys, tmp_path / "out", tile_px=4096
    )
    assert code == 2
    assert "refused when tiled: NoTissue" in printed
    assert "no estimate" in printed


def test_of_many_slides_only_those_with_a_remark_have_a_line(
    slides, capsys, monkeypatch
):
    monkeypatch.setattr(_tile_check, "_MOST_LINES", 1)
    recipe = TilingRecipe()
    checked = _tile_check.check_slides(read_cohort(slides / "mixed.csv").rows, recipe)
    _tile_check.print_slides(checked, recipe)
    printed = capsys.readouterr().out
    assert "\n# s0 " not in printed and "\n# s1 " in printed
    assert "and 2 more slides with a remark" in printed


def test_embedding_is_expected_from_the_tiles_and_the_encoder(
    slides, capsys, tmp_path, make_tiles
):
    recipe = tile.TileConfig(
        cohort=slides / "good.csv", out=tmp_path, tile_px=64
    ).recipe
    tiles = make_tiles(slides / "good.csv", recipe, tmp_path / "tiles")
    raw = {"tiles": str(tiles), "out": str(tmp_path / "e"), "colour": ["rgb", "gray"]}
    raw |= {"encoders": [{"name": "colour_stats"}], "runtime": {"actors": 3}}
    assert embed.inspect(configs.validate(embed.EmbedConfig, raw)) == 0
    printed = capsys.readouterr().out
    num = sum(
        n for r in TileDirectory(tiles).slides.values() for _, n in r["tiles_per_scale"]
    )
    assert f"tiles: {num:,} of 3 slides" in printed
    assert "colour_stats: " in printed and "with 3 workers" in printed
    assert not (tmp_path / "e").exists()


def test_embedding_of_slides_that_are_gone_ends_with_2(
    slides, capsys, tmp_path, make_tiles, write_slide
):
    write_slide(tmp_path / "a.tiff", 1, size=(700, 700))
    (tmp_path / "c.csv").write_text("path\na.tiff\n")
    recipe = tile.TileConfig(cohort=tmp_path / "c.csv", out=tmp_path).recipe
    tiles = make_tiles(tmp_path / "c.csv", recipe, tmp_path / "tiles")
    (tmp_path / "a.tiff").unlink()
    raw = {"tiles": str(tiles), "out": str(tmp_path / "e")}
    raw |= {"encoder": {"name": "colour_stats"}}
    assert embed.inspect(configs.validate(embed.EmbedConfig, raw)) == 2
    assert "a: cannot be read" in capsys.readouterr().out


def test_numbers_in_words():
    assert [duration(s) for s in (0.2, 45, 150, 9000, 4e5, 5e7)] == [
        "1 s", "45 s", "2.5 min", "2.5 h", "4.6 days", "579 days",
    ]  # fmt: skip
    assert [size(b) for b in (5, 2e6, 3.456e9, 1.2e13)] == [
        "under 1 MB", "2 MB", "3.46 GB", "12 TB",
    ]  # fmt: skip
    assert [rounded(n) for n in (7, 99.4, 1234, 1234567)] == [
        "7", "99", "1,200", "1,200,000",
    ]  # fmt: skip
    assert [milliseconds(s) for s in (0.00045, 0.0123, 0.1372)] == [
        "0.45 ms", "12 ms", "140 ms",
    ]  # fmt: skip
    assert spread(list(range(9)), 3) == [1, 4, 7]
    assert spread([1, 2], 4) == [1, 2] == list(np.unique(spread([1, 2], 4)))
    assert spread([], 4) == []
