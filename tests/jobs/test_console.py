"""What the jobs print of failures, coverage and pictures, and the files beside."""

import csv

import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import TooManyFailuresError
from mshisto_ray.jobs import embed, export_h5, tile


@pytest.fixture(scope="module")
def slides(tmp_path_factory, write_slide):
    folder = tmp_path_factory.mktemp("console")
    write_slide(folder / "a.tiff", 0, size=(700, 700))
    for name in ("b.svs", "c.svs"):
        (folder / name).write_bytes(b"not a slide " + name.encode())
    (folder / "all.csv").write_text("path,mpp\na.tiff,\nb.svs,\nc.svs,\n")
    return folder


def tile_config(slides, out, store, max_failures=1.0):
    raw = {"cohort": str(slides / "all.csv"), "out": str(out), "tile_px": 128}
    raw["runtime"] = {"max_failures": max_failures, "mlflow": {"uri": store}}
    return configs.validate(tile.TileConfig, raw)


def written(out):
    with (out / "failures.csv").open(newline="") as file:
        return [row["slide_id"] for row in csv.DictReader(file)]


def test_reasons_and_coverage_are_printed_by_every_stage(
    plain, shared_store, slides, tmp_path, capsys
):
    out = tmp_path / "tiles"
    tile.run(tile_config(slides, out, shared_store))
    said = capsys.readouterr().out
    assert "tile: 2 x NotASlide (tile, input; 2 slides): for example b: no " in said
    assert f"tile: all failures: {out / 'failures.csv'}" in said
    assert "tile: share of the tissue inside tiles, mean over slides: " in said
    assert "tile: warning: at 2 um/px tiles hold less than 70% of the tissue in 1 of 1"\
        " slides (a " in said  # fmt: skip
    assert written(out) == ["b", "c"]
    page = out / "contact_sheet" / "page-001.jpg"
    before = page.stat().st_mtime_ns
    tile.run(tile_config(slides, out, shared_store))
    assert "2 x NotASlide" in capsys.readouterr().out
    assert page.stat().st_mtime_ns == before

    embeddings = tmp_path / "embeddings"
    runtime = {"mlflow": {"uri": shared_store}}
    raw = {"tiles": str(out), "out": str(embeddings)}
    raw |= {"encoder": {"name": "colour_stats"}, "runtime": runtime}
    embed.run(configs.validate(embed.EmbedConfig, raw))
    said = capsys.readouterr().out
    assert "embed: 2 x NotASlide (tile, input; 2 slides): for example b: " in said
    assert written(embeddings) == ["b", "c"]

    raw = {"embeddings": str(embeddings), "out": str(tmp_path / "h5")}
    raw |= {"runtime": runtime}
    export_h5.run(configs.validate(export_h5.ExportConfig, raw))
    assert "all failures" not in capsys.readouterr().out
    assert written(tmp_path / "h5") == []


def test_a_job_that_stops_for_its_failures_has_printed_their_reasons(
    plain, shared_store, slides, tmp_path, capsys
):
    out = tmp_path / "tiles"
    with pytest.raises(TooManyFailuresError, match=r"see failures\.csv"):
        tile.run(tile_config(slides, out, shared_store, 0.5))
    assert "tile: 2 x NotASlide" in capsys.readouterr().out
    assert written(out) == ["b", "c"]
