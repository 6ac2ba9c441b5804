"""The job on hand-made maps: regions, points, tables and pictures known exactly."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
import tifffile
from PIL import Image

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.decision.files import Decision, write_decision
from mshisto_ray.decision.rules import DecisionRules
from mshisto_ray.jobs import detect
from mshisto_ray.jobs._detect_config import DetectConfig
from mshisto_ray.statistics.calibration import Platt
from mshisto_ray.store.manifest import open_stage, read_manifest
from mshisto_ray.store.shards import write_shard
from mshisto_ray.tiling.recipe import TilingRecipe

SIDE, PX, MPP = 16, 64, 0.5
MM2 = (PX * MPP / 1000) ** 2  # of a tile
# Two lesions in tiles (row, col): of six tiles and of one; found are the first and one
# column more, and a tile where there is nothing.
LESIONS = [(128, 128, 320, 256), (640, 640, 704, 704)]


@pytest.fixture(scope="module")
def study(tmp_path_factory, make_tiles):
    folder = tmp_path_factory.mktemp("detect")
    pixels = np.full(((SIDE + 8) * PX,) * 2 + (3,), 245, np.uint8)
    pixels[: SIDE * PX, : SIDE * PX] = (200, 120, 180)
    for name in "ab":
        with tifffile.TiffWriter(folder / f"{name}.tiff") as tiff:
            tiff.write(
                pixels, tile=(256, 256), photometric="rgb", compression="jpeg",
                resolution=(20000, 20000), resolutionunit="CENTIMETER",
            )  # fmt: skip
    shapes = [
        {
            "type": "Feature",
            "geometry": json.loads(shapely.to_geojson(shapely.box(*box))),
            "properties": {"classification": {"name": "cancer"}},
        }
        for box in LESIONS
    ]
    content = {"type": "FeatureCollection", "features": shapes}
    (folder / "a.geojson").write_text(json.dumps(content))
    (folder / "cohort.csv").write_text(
        "path,patient_id,annotation\na.tiff,p,a.geojson\nb.tiff,q,\n"
    )
    recipe = TilingRecipe(scales=(MPP,), tile_px=PX)
    make_tiles(folder / "cohort.csv", recipe, folder / "tiles")
    return folder


def probabilities():
    found = np.full((SIDE, SIDE), 0.1)
    found[2:4, 2:6], found[14, 14], found[10, 10] = 0.9, 0.7, 0.2
    return found


def rows_of(study, slide_id):
    table = pq.read_table(study / "tiles" / "shards" / f"{slide_id}.parquet")
    return table.select(["slide_id", "mpp", "row", "col", "x", "y", "extent"])


@pytest.fixture(scope="module", params=["tile_head", "predictions"])
def predicted(request, study, tmp_path_factory):
    """The same probabilities as either job writes them."""
    return written(study, tmp_path_factory.mktemp("as"), request.param)


@pytest.fixture(scope="module")
def out_of_fold(study, tmp_path_factory):
    return written(study, tmp_path_factory.mktemp("as"), "tile_head")


def written(study, folder, stage):
    out, tables = folder / stage, []
    with open_stage(out, stage, {"a": 1}, {}):
        pass
    for slide_id in "ab":
        table = rows_of(study, slide_id)
        assert len(table) == SIDE**2
        place = table["row"].to_numpy(), table["col"].to_numpy()
        value = probabilities()[place] if slide_id == "a" else np.full(len(table), 0.0)
        if stage == "predictions":
            for name, column in (("normal", 1 - value), ("tumour", value)):
                table = table.append_column(f"instance_{name}", pa.array(column))
            write_shard(out / "shards" / f"{slide_id}.parquet", [table])
            continue
        for change in (0.05, -0.05):  # two repeats, whose mean counts
            own = table.drop_columns(["x", "y", "extent"])
            moved = np.clip(value + change, *((0, 0) if slide_id == "b" else (0, 1)))
            for name, column in (("normal", 1 - moved), ("tumour", moved)):
                own = own.append_column(f"prob_{name}", pa.array(column))
            tables.append(own)
    if tables:
        write_shard(out / "result" / "predictions.parquet", tables)
    return out


def decide(folder, threshold=0.95, calibration=None):
    config = DecisionConfig.model_validate({"threshold": {"value": threshold}})
    folder.mkdir(parents=True, exist_ok=True)
    write_decision(folder, Decision(config, DecisionRules(calibration, threshold), 2))


def regions_of(study, predicted, out, **keys):
    run(study, predicted, out, cohort=None, pictures=False, **keys)
    rows = pd.read_csv(out / "slides.csv")
    return int(rows.regions.sum()), read_manifest(out, detect.STAGE).recipe


def test_the_decision_of_a_head_is_taken_unless_it_is_not_wanted(study, tmp_path):
    own = written(study, tmp_path / "own", "tile_head")
    plain = regions_of(study, own, tmp_path / "plain")
    assert plain[0] == 2 and plain[1]["threshold"] == 0.5
    assert "decision" not in plain[1]
    decide(own / "result" / "head", 0.8)
    assert regions_of(study, own, tmp_path / "strict")[0] == 1
    assert regions_of(study, own, tmp_path / "off", decision=False) == plain
    # A threshold that is given is of calibrated probabilities.
    decide(own / "result" / "head", 0.5, Platt(1.0, -2.0))
    calibrated = regions_of(study, own, tmp_path / "calibrated", threshold=0.5)
    assert calibrated[0] == 1 and calibrated[1]["decision"]["threshold"] == 0.5


def test_what_predict_wrote_calibrated_is_taken(study, tmp_path):
    own = written(study, tmp_path / "own", "predictions")
    for path in (own / "shards").glob("*.parquet"):
        table = pq.read_table(path)
        value = table["instance_tumour"].to_numpy() / 2
        table = table.append_column("calibrated_normal", pa.array(1 - value))
        write_shard(path, [table.append_column("calibrated_tumour", pa.array(value))])
    decide(own, 0.4, Platt(1.0, 0.0))
    assert regions_of(study, own, tmp_path / "out")[0] == 1
    assert regions_of(study, own, tmp_path / "all", threshold=0.3)[0] == 2
    # The threshold is of the second class; maps of both have the common one.
    both = regions_of(study, own, tmp_path / "both", classes=["normal", "tumour"])
    assert both[1]["threshold"] == 0.5


def run(study, predicted, out, **keys):
    raw = {
        "predictions": predicted,
        "tiles": study / "tiles",
        "out": out,
        "cohort": study / "cohort.csv",
        "annotations": {"tumour": "cancer"},
        **keys,
    }
    config = configs.validate(DetectConfig, raw)
    detect.check(config)
    detect.run(config)
    return json.loads((out / "metrics.json").read_text())["tumour"]


def test_regions_and_points_of_a_hand_made_map(study, predicted, tmp_path):
    metrics = run(study, predicted, tmp_path / "out")
    wanted = {
        "dice": 2 * 6 / (9 + 7), "iou": 6 / 10, "sensitivity": 1 / 2,
        "fp_per_slide": 1.0, "fp_per_mm2": 1 / (SIDE**2 * MM2),
    }  # fmt: skip
    for name, value in wanted.items():
        assert metrics[name]["value"] == pytest.approx(value), name
    slides = pd.read_csv(tmp_path / "out" / "slides.csv").set_index("slide_id")
    a = slides.loc["a"]
    assert (a.regions, a.points, a.targets, a.targets_found, a.false_points) == (
        2, 3, 2, 1, 1,
    )  # fmt: skip
    assert a.found_mm2 == pytest.approx(9 * MM2)
    assert a.annotated_mm2 == pytest.approx(7 * MM2)
    assert a.both_mm2 == pytest.approx(6 * MM2)
    assert np.isnan(slides.loc["b"].dice) and np.isnan(slides.loc["b"].targets)
    points = pd.read_csv(tmp_path / "out" / "points.csv")
    middle = [(2.5 * PX, 2.5 * PX), (4.5 * PX, 2.5 * PX), (14.5 * PX, 14.5 * PX)]
    assert list(zip(points.x, points.y, strict=True)) == middle
    assert points.finds.tolist()[:2] == [0, 0] and np.isnan(points.finds[2])
    assert points.probability.tolist() == pytest.approx([0.9, 0.9, 0.7])


def test_qupath_gets_regions_and_points_of_one_colour(study, out_of_fold, tmp_path):
    run(study, out_of_fold, tmp_path / "out", pictures=False)
    content = json.loads((tmp_path / "out" / "geojson" / "a.0.5.geojson").read_text())
    kinds = [f["properties"]["objectType"] for f in content["features"]]
    assert kinds == ["annotation"] * 2 + ["detection"] * 3
    classes = [f["properties"]["classification"] for f in content["features"]]
    assert all(c == classes[0] for c in classes) and classes[0]["name"] == "tumour"
    shapes = [shapely.geometry.shape(f["geometry"]) for f in content["features"]]
    assert shapes[0].equals(shapely.box(2 * PX, 2 * PX, 6 * PX, 4 * PX))
    assert shapes[2].equals(shapely.Point(2.5 * PX, 2.5 * PX))
    values = content["features"][0]["properties"]["measurements"]
    assert values["area mm2"] == pytest.approx(8 * MM2)
    assert values["mean probability"] == pytest.approx(0.9)


def test_maps_curves_and_pictures_are_written(study, out_of_fold, tmp_path):
    out = tmp_path / "out"
    run(study, out_of_fold, out, unannotated="free")
    table = pd.read_parquet(out / "maps" / "a.0.5.parquet")
    np.testing.assert_allclose(
        table.prob_tumour, probabilities()[table.row, table.col], atol=1e-12
    )
    assert (table.x == table.col * PX).all() and set(table.extent) == {PX}
    curve = pd.read_csv(out / "froc.csv")
    assert curve.threshold.tolist()[:3] == pytest.approx([0.9, 0.7, 0.2])
    assert curve.sensitivity.tolist()[:3] == pytest.approx([0.5, 0.5, 1.0])
    assert curve.fp_per_slide.tolist()[:2] == pytest.approx([0, 0.5])
    with Image.open(out / "pictures" / "a.0.5.tumour.png") as picture:
        assert picture.width > 200
    assert (out / "froc.png").is_file()
    slides = pd.read_csv(out / "slides.csv").set_index("slide_id")
    assert slides.loc["b"].targets == 0 and slides.loc["b"].false_points == 0


def test_true_points_are_found_once(study, out_of_fold, tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("slide_id,x,y,label\na,160,160,tumour\na,900,900,tumour\n"
                     "a,300,160,other\nb,,,\n")  # fmt: skip
    metrics = run(study, out_of_fold, tmp_path / "out", points=table, cohort=None)
    # Of three points the first finds one; one is missed, that of another class not.
    assert metrics["precision"]["value"] == pytest.approx(1 / 3)
    assert metrics["sensitivity"]["value"] == pytest.approx(1 / 2)
    assert metrics["f1"]["value"] == pytest.approx(2 / 5)
    assert metrics["fp_per_slide"]["value"] == pytest.approx(2 / 2)
    assert "dice" not in metrics


def test_smoothing_and_small_regions(study, out_of_fold, tmp_path):
    out = tmp_path / "out"
    run(study, out_of_fold, out, smooth_um=32.0, min_area_mm2=2 * MM2, pictures=False)
    slides = pd.read_csv(out / "slides.csv").set_index("slide_id")
    assert slides.loc["a"].regions == 1  # the lone tile is smoothed away
    with pytest.raises(InputError, match="smooth_um"):
        run(study, out_of_fold, out)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": ["cyst"]}, "classes: the predictions have no class 'cyst'"),
        ({"annotations": {"cyst": "a"}}, "annotations: 'cyst' is not mapped"),
    ],
)
def test_wrong_keys_are_refused(study, out_of_fold, tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        run(study, out_of_fold, tmp_path / "out", **keys)


def test_other_folders_are_refused(study, tmp_path):
    with pytest.raises(InputError, match="give the folder `out` of mshisto predict"):
        run(study, study / "tiles", tmp_path / "out")


def test_a_head_of_slides_alone_is_refused(study, tmp_path):
    with open_stage(tmp_path / "p", "predictions", {}, {}):
        pass
    table = rows_of(study, "a")
    empty = table.append_column("instance_tumour", pa.nulls(len(table), pa.float64()))
    write_shard(tmp_path / "p" / "shards" / "a.parquet", [empty])
    with pytest.raises(InputError, match="gives no class to a tile by itself"):
        run(study, tmp_path / "p", tmp_path / "out")


def test_points_that_are_no_numbers_are_refused(study, out_of_fold, tmp_path):
    table = tmp_path / "points.csv"
    table.write_text("slide_id,x,y\na,1,two\n")
    with pytest.raises(InputError, match="row 1: x 1, y two"):
        run(study, out_of_fold, tmp_path / "out", points=table)
    table.write_text("slide_id,x\na,1\n")
    with pytest.raises(InputError, match="lacks y"):
        run(study, out_of_fold, tmp_path / "out", points=table)
