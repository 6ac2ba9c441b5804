"""The job on phantom slides, by colours and by embeddings, against the search."""

import csv

import numpy as np
import pytest

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.contrastive.threshold_search import search_thresholds
from mshisto_ray.jobs import thresholds
from mshisto_ray.jobs.thresholds import FILE, ThresholdsConfig
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_cohort
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.training.tile_index import read_index

NEAR, FAR = [50, 100], [80, 400, 5000]


@pytest.fixture(scope="module")
def stage(tmp_path_factory, make_tiles, make_stages):
    """Tiles of two phantom slides, and embeddings that are smooth over the slide."""
    folder = tmp_path_factory.mktemp("thresholds")
    drawn = PhantomConfig(
        num_patients=2, slides_per_patient=1, size=2048, colour_matched=False
    )
    cohort = write_cohort(drawn, folder)
    make_tiles(cohort, TilingRecipe(scales=(0.5, 1.0), tile_px=64), folder / "tiles")
    tiles = TileDirectory(folder / "tiles")
    stages = make_stages(folder)
    stages.tables = {slide: tiles.read(slide) for slide in tiles.slides}
    prints = {s: record["fingerprint"] for s, record in tiles.slides.items()}
    lost = [(next(iter(tiles.slides)), r, c) for r in range(32) for c in range(12)]
    path = stages.embeddings(
        lambda table: 3 * smooth(table["row"].to_numpy(), table["col"].to_numpy()),
        "embeddings",
        lost=lost,
        recipe=tiles.pixel_recipe,
        prints=prints,
    )
    return tiles, path, lost


def smooth(row, col):
    """Unit vectors that turn over about 20 tiles."""
    return np.stack([np.cos((row + col) / 6), np.sin((row + col) / 6)], axis=1)


def job(stage, out, **keys):
    tiles, *_ = stage
    raw = {"tiles": tiles.path, "out": out, "near_um": NEAR, "far_um": FAR, **keys}
    return configs.validate(ThresholdsConfig, raw)


def read(out):
    with (out / FILE).open() as file:
        return {
            (float(row["near_um"]), float(row["far_um"])): float(row["auc"])
            for row in csv.DictReader(file)
        }


def test_embeddings_of_the_tiles_judge(stage, tmp_path, capsys):
    tiles, path, lost = stage
    given = job(stage, tmp_path, embeddings=path, least_covered=0.5)
    thresholds.check(given)
    thresholds.run(given)
    index = read_index(tiles, list(tiles.slides), {}, (0.5,))
    gone = {(r, c) for _, r, c in lost}

    def describe(chosen):
        row, col = index.row(chosen), index.col(chosen)
        values = smooth(row, col)
        for i, (slide, place) in enumerate(
            zip(index.slide(chosen), zip(row, col, strict=True), strict=True)
        ):
            if slide == 0 and place in gone:
                values[i] = np.nan
        return values

    wanted = search_thresholds(index, describe, NEAR, FAR, 2000, 0)
    found = read(tmp_path)
    assert found.keys() == {(r.near_um, r.far_um) for r in wanted}
    for r in wanted:
        # Equal distances are ties here, and apart by rounding there.
        np.testing.assert_allclose(found[r.near_um, r.far_um], r.auc, atol=5e-3)
    assert found[50, 400] > 0.8  # what turns over 640 um is alike within 50
    said = capsys.readouterr().out
    assert "thresholds: near_um=50 far_um=400" in said


def test_colours_of_the_slides_judge(stage, tmp_path, capsys):
    given = job(stage, tmp_path, scale=1.0)
    thresholds.check(given)
    thresholds.run(given)
    found = read(tmp_path)
    assert 0 < found[100, 400] < 1
    # No slide is 5 mm wide, and a tile at this scale is wider than 50 um.
    said = capsys.readouterr().out
    assert "| 100 | 5000 | nan | 0.0% |" in said and "| 50 | 400 | nan | 0.0% |" in said


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scale": 4.0}, r"scale: no tiles at 4 um/px; there are 0\.5, 1"),
        ({"far_um": [40.0]}, "far_um: the largest is 40 um, the smallest near_um 50"),
    ],
)
def test_wrong_input_is_refused(stage, tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        thresholds.check(job(stage, tmp_path / "out", **keys))
    assert not (tmp_path / "out").exists()
