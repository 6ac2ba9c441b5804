"""Evaluation of real pixels: baselines are embedded here, queries are drawn."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.evaluation.labelled_tiles import LabelConfig
from mshisto_ray.evaluation.labelling import read_labelled_tiles
from mshisto_ray.evaluation.plan import QuestionConfig, make_plan
from mshisto_ray.jobs import embed, evaluate, tile
from mshisto_ray.reporting import embedding_map
from mshisto_ray.reporting.retrieval_sheet import read_pictures
from mshisto_ray.slides import (
    open_slide,
)
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tiling.pixels import read_tile
from mshisto_ray.tiling.record import readings_of

pytestmark = [pytest.mark.slow, pytest.mark.ray]
ENCODER = {"name": "colour_stats", "quantiles": [0.5]}
TINY = {"name": "timm", "model": "test_resnet", "weights": "random"}


def polygon(name, left, right):
    ring = [[left, 0], [right, 0], [right, 900], [left, 900], [left, 0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": name}},
    }


def size(path):
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture(scope="module")
def made(local_ray, write_slide, tmp_path_factory):
    """Three slides, left of x = 550 of one class and right of it of another."""
    folder = tmp_path_factory.mktemp("evaluate_job")
    halves = {"features": [polygon("left", 0, 550), polygon("right", 550, 1100)]}
    (folder / "halves.geojson").write_text(json.dumps(halves))
    lines = ["path,annotation"]
    for seed in range(3):
        write_slide(folder / f"s{seed}.tiff", seed)
        lines.append(f"s{seed}.tiff,halves.geojson")
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    raw = {"cohort": folder / "cohort.csv", "out": folder / "tiles", "tile_px": 64}
    tile.run(configs.validate(tile.TileConfig, raw | {"scales": [0.5, 1.0]}))
    raw = {"tiles": folder / "tiles", "out": folder / "mine", "encoder": ENCODER}
    embed.run(configs.validate(embed.EmbedConfig, raw))
    return folder


def test_embeds_the_baselines_that_are_not_given(made):
    raw = {
        "encoders": {"mine": made / "mine"},
        "tiles": made / "tiles",
        "out": made / "out",
        "baselines": {"random_encoder": TINY},
        "near_um": 50,
        "far_um": 150,
    }
    config = configs.validate(evaluate.EvaluateConfig, raw)
    evaluate.check(config)
    assert not config.out.exists()
    evaluate.run(config)
    metrics = pq.read_table(config.out / "metrics.parquet").to_pandas()
    own = metrics[metrics["minus"].isna()].set_index(["encoder", "metric"])
    assert set(own.index.levels[0]) == {"mine", "colour_stats", "random"}
    names = {"hit_at_1.left", "addr_spatial", "parent_recall_at_10"}
    assert names <= set(own.index.levels[1])
    assert np.isfinite(own["value"]).all()
    sizes = {
        size(config.out / "queries" / f"{name}.png") for name in own.index.levels[0]
    }
    assert len(sizes) == 1


def test_pictures_are_those_of_the_tiles(made):
    tiles = TileDirectory(made / "tiles")
    labelled = read_labelled_tiles(tiles, {}, 1.0, None, LabelConfig(), None)
    plan = make_plan(labelled, None, QuestionConfig())
    pictures = read_pictures(tiles, plan, range(len(labelled.label)))
    assert len(pictures) == len(labelled.label)
    for index, slide_id in enumerate(labelled.tiles.slide_ids):
        record, table = tiles.slides[slide_id], tiles.read(slide_id).to_pandas()
        slide = open_slide(made / f"{slide_id}.tiff")
        places = table.set_index(["mpp", "row", "col"])[["x", "y"]]
        for row in np.flatnonzero(labelled.tiles.slide == index)[::5]:
            key = (1.0, labelled.tiles.row[row], labelled.tiles.col[row])
            x, y = map(int, places.loc[key])
            want = read_tile(slide, readings_of(record)[1.0], x, y, 64)
            np.testing.assert_array_equal(np.asarray(pictures[row]), want)
        slide.close()


def test_slides_that_are_gone_leave_cells_empty(made):
    tiles = TileDirectory(made / "tiles")
    labelled = read_labelled_tiles(tiles, {}, 1.0, None, LabelConfig(), None)
    plan = make_plan(labelled, None, QuestionConfig())
    tiles.slides["s1"]["path"] = "gone.tiff"
    pictures = read_pictures(tiles, plan, range(len(labelled.label)))
    assert {labelled.tiles.slide[row] for row in pictures} == {0, 2}


def test_a_map_keeps_classes_that_are_apart_apart(made, tmp_path):
    pytest.importorskip("umap")
    tiles = TileDirectory(made / "tiles")
    labelled = read_labelled_tiles(tiles, {}, 0.5, None, LabelConfig(), None)
    values = np.random.default_rng(0).normal(size=(len(labelled.label), 6))
    values[:, 0] += 30 * labelled.label
    path = tmp_path / "map.png"
    embedding_map.draw_embedding_map(path, "drawn", values, labelled, False, 0)
    points = pq.read_table(path.with_suffix(".parquet")).to_pandas()
    middle = points.groupby("class")[["u", "v"]].mean()
    spread = points.groupby("class")[["u", "v"]].std().max().max()
    assert np.ptp(middle.to_numpy(), axis=0).max() > 3 * spread
    assert size(path) == (840, 720)


@pytest.fixture(scope="module")
def lymph_node(local_ray, test_data, tmp_path_factory):
    """A slide with two annotated lymph nodes and a metastasis of 0.04 mm2, embedded."""
    folder, slides = tmp_path_factory.mktemp("lymph_node"), test_data / "slides"
    slide, outlines = (slides / f"lymphnode_HE_half.{e}" for e in ("tiff", "geojson"))
    table = f"path,mpp,annotation\n{slide},1.0,{outlines}\n"
    (folder / "cohort.csv").write_text(table)
    raw = {"cohort": folder / "cohort.csv", "out": folder / "tiles", "tile_px": 128}
    tile.run(configs.validate(tile.TileConfig, raw | {"scales": [1.0, 2.0]}))
    raw = {"tiles": folder / "tiles", "out": folder / "colours"}
    raw |= {"encoder": {"name": "colour_stats"}}
    embed.run(configs.validate(embed.EmbedConfig, raw))
    return folder


def evaluation(folder, **changes):
    colours = folder / "colours"
    raw = {
        "encoders": {"mine": colours},
        "tiles": folder / "tiles",
        "out": folder / "out",
        "baselines": {"colour_stats": colours, "random": colours},
        "exclude": {"by": "block"},
    }
    return configs.validate(evaluate.EvaluateConfig, raw | changes)


def test_lymph_nodes_find_lymph_nodes_beyond_the_block(lymph_node):
    config = evaluation(lymph_node, queries=["LymphNode"])
    evaluate.check(config)
    evaluate.run(config)
    found = pq.read_table(config.out / "neighbours.parquet").to_pandas()
    mine = found[found["encoder"] == "mine"]
    assert set(mine["class"]) == {"LymphNode"} and len(mine) == 10 * len(
        mine.drop_duplicates(["row", "col"])
    )
    gap = mine[["row", "col"]].to_numpy() - mine[["found_row", "found_col"]].to_numpy()
    assert (np.hypot(*gap.T) * 128 > 1000).all()
    told = json.loads((config.out / "metrics.json").read_text())
    (hit,) = [
        row
        for row in told["metrics"]
        if (row["encoder"], row["minus"], row["metric"]) == ("mine", None, "hit_at_1")
    ]
    assert told["chance"]["hit_at_1"] < hit["low"] < hit["value"] < 1


def test_a_class_within_one_block_has_no_relevant_target(lymph_node):
    said = r"no query has a relevant target \(Tumor: 2\): exclude.by=block within 1000"
    with pytest.raises(InputError, match=said):
        evaluate.check(evaluation(lymph_node, queries=["Tumor"]))
    changes = {"exclude": {"by": "self"}, "out": lymph_node / "self"}
    evaluate.check(evaluation(lymph_node, queries=["Tumor"], **changes))
