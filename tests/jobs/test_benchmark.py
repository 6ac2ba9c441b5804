import json
import runpy
import sys
from pathlib import Path

import numpy as np
import openslide as raw
import pytest

from mshisto_ray.config import InputError
from mshisto_ray.jobs.benchmark import table, to_words
from mshisto_ray.jobs.benchmarks import (
    Measure,
    _by_hand,
    _slides,
    focus,
    interleaved,
    read,
)
from mshisto_ray.jobs.benchmarks._tissue_tiles import tiles_of
from mshisto_ray.slides import native_tiles
from mshisto_ray.tiling.pixels import read_tile

JOB = Path(__file__).parents[2] / "jobs" / "benchmark.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The benchmark's own slides, a quarter as wide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_slides, "_SIDE_PX", 2048)
        return {s.name: s for s in _slides.make_slides(tmp_path_factory.mktemp("made"))}


def test_slides_have_the_layouts_they_are_named_for(made):
    for slide in made.values():
        with raw.OpenSlide(slide.path) as handle:
            tile = handle.properties["openslide.level[0].tile-width"]
            mpp = float(handle.properties["openslide.mpp-x"])
            downsamples = [round(d) for d in handle.level_downsamples]
        scanned, native = slide.name.split("_")
        assert tile == native
        assert mpp == pytest.approx({"20x": 0.5, "40x": 0.25}[scanned], rel=1e-3)
        assert downsamples == ([1, 2, 4] if scanned == "20x" else [1, 4, 16])


def test_every_way_reads_the_same_tiles(made):
    """What is compared is the same work: places, sizes, and about the same pixels."""
    slide = made["40x_240"]
    plain = tiles_of(slide, (0.5,), "native", 1)
    for scales, pixels in (((0.5,), "scaled"), ((0.5, 1.0, 2.0), "finest")):
        tiles = tiles_of(slide, scales, pixels, 1)
        finest = [(x, y) for reading, x, y in tiles if reading.mpp == 0.5]
        assert finest == [(x, y) for _, x, y in plain]
        assert len(tiles) == (16 if len(scales) == 1 else 21)


def test_by_hand_reads_the_same_pixels_and_decoding_is_the_least(made):
    slide = made["20x_240"]
    by_hand = _by_hand.ByHand(slide.path)
    assert by_hand.is_jpeg
    tiles = tiles_of(slide, (0.5,), "native", 1)
    opened = native_tiles.build(slide.path)
    for reading, x, y in tiles[:3]:
        ours = read_tile(opened, reading, x, y, 256)
        np.testing.assert_array_equal(by_hand.read(x, y, 256, 256), ours)
    found = read._measure(slide, 1, 1)
    name = f"read.{slide.name}"
    assert found[f"{name}.exact.of_decode"].value > 0
    assert found[f"{name}.linked_native.per_tile"].target == 1.25
    assert found[f"{name}.scaled.difference"].value == 0  # no reduced level is read
    by_hand.close()


def test_a_slide_without_jpeg_tiles_has_no_decode_limit(test_data):
    path = test_data / "slides/tcga-cr-7395-01a-01-ts1.svs"
    assert not _by_hand.ByHand(path).is_jpeg


def test_the_job_measures_a_given_slide(made, tmp_path, monkeypatch, capsys):
    words = ["read", f"slide={made['20x_256'].path}", "cells=1", "repeats=1"]
    monkeypatch.setattr(sys, "argv", ["benchmark", *words, f"out={tmp_path}"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(JOB), run_name="__main__")
    assert stopped.value.code == 0
    found = json.loads((tmp_path / "benchmark.json").read_text())
    gain = found["read.20x_256.exact.gain"]
    plain = found["read.20x_256.plain"]["value"]
    cost = found["read.20x_256.exact"]
    assert cost["baseline"] == plain > 0
    assert gain["value"] == pytest.approx(plain / cost["value"])
    assert "| read.20x_256.exact.gain |" in capsys.readouterr().out


def test_words_of_a_part():
    words = to_words(["read", "repeats=3", "out=x", "benchmark.cells=2"])
    assert words == [
        "benchmark={name: read}",
        "benchmark.repeats=3",
        "out=x",
        "benchmark.cells=2",
    ]
    assert to_words(["read", "b.yaml", "out=x"])[0] == "b.yaml"
    for same in (["b.yaml", "out=x"], ["out=x"], ["--help"], []):
        assert to_words(same) == same


def test_a_part_that_is_not_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "reed"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(JOB), run_name="__main__")
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: benchmark: no 'reed' in benchmarks; have ")


def test_targets_are_judged_by_their_sense():
    found = {
        "a": Measure(5.0, "x", 1.0, 4.5),
        "b": Measure(1.3, "x", None, 1.25, "at most"),
        "c": Measure(1.0, "ms"),
    }
    lines = table(found).splitlines()[2:]
    assert lines[0].endswith("| 1.000 | at least 4.5: met |")
    assert lines[1].endswith("| at most 1.25: missed |")
    assert lines[2].endswith("|  |  |")


def test_ways_take_turns():
    order = []
    ways = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = interleaved(ways, 3)
    assert order == list("ababab")
    assert all(np.shape(values) == (3,) for values in seconds.values())


def test_tiles_are_separated_from_themselves_out_of_focus(made, tmp_path):
    found = focus.build(slide=made["20x_256"].path, blur_um=(4.0,))(tmp_path)
    assert found["focus.tiles"].value == 256 + 64 + 16
    areas = {name: m.value for name, m in found.items() if m.unit == "AUROC"}
    assert set(areas) == {f"focus.blur_4um.at_{mpp}" for mpp in ("0.5", "1", "2")}
    assert min(areas.values()) > 0.99


def test_a_slide_without_a_level_near_has_no_sharpness(made, tmp_path):
    with pytest.raises(InputError, match="no native level near 2 um/px"):
        focus.build(slide=made["40x_240"].path, mpp=0.6)(tmp_path)
