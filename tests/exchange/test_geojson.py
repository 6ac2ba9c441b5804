import json

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
import shapely.geometry
import tifffile
from scipy import ndimage

from mshisto_ray.exchange.geojson import write_tiles, write_tissue
from mshisto_ray.store.cohort import CohortSlide, slide_to_json
from mshisto_ray.tiling.annotation import read_annotation
from mshisto_ray.tiling.recipe import TilingRecipe
from mshisto_ray.tiling.unit import geojson_paths, make_tiler


def test_tiles_are_polygons_at_level_0_with_their_scores(tmp_path):
    x, y = np.array([0, 512]), np.array([1024, 2048])
    extent = np.array([512.0, 511.5])
    scores = {"attention": np.array([0.25, 0.75]), "instance": np.array([0.5, np.nan])}
    write_tiles(tmp_path / "maps" / "a.geojson", x, y, extent, scores)
    content = json.loads((tmp_path / "maps" / "a.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    first, second = content["features"]
    shape = shapely.geometry.shape(first["geometry"])
    assert shape.is_valid and shape.bounds == (0, 1024, 512, 1536)
    assert shapely.geometry.shape(second["geometry"]).bounds[2] == 1023.5
    assert first["properties"]["objectType"] == "tile"
    assert first["properties"]["measurements"] == {"attention": 0.25, "instance": 0.5}
    # QuPath's reader does not accept NaN.
    assert second["properties"]["measurements"] == {"attention": 0.75}


def test_classes_of_tiles_have_a_colour_each(tmp_path):
    names = ["0.5 um/px", "0.5 um/px", "1 um/px", *(f"c{i}" for i in range(9))]
    place = np.arange(len(names)) * 10
    extent = np.full(len(names), 10.0)
    write_tiles(tmp_path / "a.geojson", place, place, extent, {}, names)
    features, _ = checked(tmp_path / "a.geojson")
    found = [feature["properties"]["classification"] for feature in features]
    assert [one["name"] for one in found] == names
    assert found[0] == found[1] and found[0]["color"] != found[2]["color"]


@pytest.mark.parametrize(
    ("classification", "is_read"),
    [
        (None, True),
        ("tumour", True),
        ({"name": "tumour", "color": [200, 0, 0]}, True),
        ({"names": ["tumour", "necrosis"], "color": [200, 0, 0]}, True),
        ({"name": "tumour"}, False),
        ({"names": ["tumour"]}, False),
        ({"color": [200, 0, 0]}, False),
    ],
)
def test_qupaths_rule_for_classes(classification, is_read):
    validator = jsonschema.Draft202012Validator(CLASSIFICATION)
    assert validator.is_valid(classification) == is_read


def test_coordinates_count_from_the_scanned_area(tmp_path):
    x, y, extent = np.array([3000, 3512]), np.array([5000, 5000]), np.full(2, 512.0)
    write_tiles(tmp_path / "a.geojson", x, y, extent, {}, origin=(2900, 4000))
    _, boxes = checked(tmp_path / "a.geojson")
    assert [box.bounds[:2] for box in boxes] == [(100, 1000), (612, 1000)]
    mask = np.zeros((700, 400), bool)
    mask[640:650, 380:390] = True
    write_tissue(tmp_path / "b.geojson", mask, 8.0, (3200, 5600), (2900, 4000))
    _, (piece,) = checked(tmp_path / "b.geojson")
    assert piece.bounds == (140, 1120, 220, 1200)


def test_no_tiles_are_an_empty_collection(tmp_path):
    nothing = np.zeros(0)
    write_tiles(tmp_path / "a.geojson", nothing, nothing, nothing, {"a": nothing})
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []


# RFC 7946 and what QuPath's reader requires of a feature, as a JSON schema.
POSITION = {
    "type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2,
}  # fmt: skip
RINGS = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "items": POSITION, "minItems": 4},
}
COLOUR = {
    "type": "array", "minItems": 3, "maxItems": 3,
    "items": {"type": "integer", "minimum": 0, "maximum": 255},
}  # fmt: skip
# QuPath's PathClass adapter: null, text, or an object with name or names and color; of
# a file with any other it imports nothing.
CLASSIFICATION = {
    "anyOf": [
        {"type": "null"},
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "required": ["color"],
            "anyOf": [{"required": ["name"]}, {"required": ["names"]}],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "names": {"type": "array", "items": {"type": "string"}},
                "color": COLOUR,
            },
        },
    ]
}
FEATURE = {
    "type": "object",
    "required": ["type", "geometry", "properties"],
    "properties": {
        "type": {"const": "Feature"},
        "geometry": {
            "type": "object",
            "required": ["type", "coordinates"],
            "properties": {"type": {"const": "Polygon"}, "coordinates": RINGS},
            "additionalProperties": False,
        },
        "properties": {
            "type": "object",
            "required": ["objectType"],
            "properties": {
                "objectType": {"enum": ["annotation", "tile"]},
                "classification": CLASSIFICATION,
                "measurements": {"additionalProperties": {"type": "number"}},
            },
        },
    },
}
SCHEMA = {
    "type": "object",
    "required": ["type", "features"],
    "properties": {
        "type": {"const": "FeatureCollection"},
        "features": {"type": "array", "items": FEATURE},
    },
}


def checked(path):
    """Features of a file that conforms to the schema, with their shapes."""
    content = json.loads(path.read_text())
    jsonschema.validate(content, SCHEMA)
    shapes = [shapely.geometry.shape(f["geometry"]) for f in content["features"]]
    for feature, shape in zip(content["features"], shapes, strict=True):
        assert shape.is_valid and shape.area > 0
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
    return content["features"], shapes


def test_a_mask_comes_back_pixel_by_pixel_from_its_polygons(tmp_path):
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(90, 120)), 2)
    mask = smooth > 0.05
    mask[:5, :5] = [[1, 0, 1, 0, 1]] * 5  # touches the border, corners meet
    path = tmp_path / "a" / "tissue.geojson"
    write_tissue(path, mask, 4.5, (535, 400))  # the slide ends inside the last pixels
    features, shapes = checked(path)
    assert {f["properties"]["classification"]["name"] for f in features} == {"tissue"}
    assert {f["properties"]["objectType"] for f in features} == {"annotation"}
    assert any(len(f["geometry"]["coordinates"]) > 1 for f in features)
    inside = mask * np.outer(
        np.clip(400 - 4.5 * np.arange(90), 0, 4.5),
        np.clip(535 - 4.5 * np.arange(120), 0, 4.5),
    )
    union = shapely.union_all(shapes)
    assert union.area == pytest.approx(inside.sum())
    rows, cols = np.nonzero(inside)
    edge = np.minimum(np.stack([cols, rows]) * 4.5 + 1, [[534.5], [399.5]])
    assert shapely.contains_xy(union, *edge).all()
    rows, cols = np.nonzero(~mask[:88, :118])
    assert not shapely.contains_xy(union, cols * 4.5 + 2, rows * 4.5 + 2).any()


def test_no_tissue_is_an_empty_collection(tmp_path):
    write_tissue(tmp_path / "a.geojson", np.zeros((4, 5), bool), 8.0, (40, 32))
    assert checked(tmp_path / "a.geojson") == ([], [])


def test_what_tiling_planned_opens_over_the_slide(tmp_path):
    rows, cols = np.ogrid[:900, :1100]
    pixels = np.full((900, 1100, 3), 242, np.uint8)
    pixels[(rows - 400) ** 2 + (cols - 600) ** 2 < 250**2] = (205, 140, 185)
    pixels[(rows - 400) ** 2 + (cols - 600) ** 2 < 90**2] = 242
    tifffile.imwrite(
        tmp_path / "a.tiff", pixels, tile=(256, 256), photometric="rgb",
        compression="jpeg", resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    recipe = TilingRecipe(tile_px=64).as_recipe()
    unit = slide_to_json(CohortSlide("a", "a", tmp_path / "a.tiff", None, None, {}))
    make_tiler(tmp_path / "out", recipe, geojson=True)(unit | {"key": {}})
    tissue_path, tiles_path = geojson_paths(tmp_path / "out", "a")
    _, pieces = checked(tissue_path)
    tissue = shapely.union_all(pieces)
    features, boxes = checked(tiles_path)
    table = pq.read_table(tmp_path / "out" / "shards" / "a.parquet")
    assert len(features) == table.num_rows
    planned = {
        (row["mpp"], row["x"], row["y"]): row["tissue"] for row in table.to_pylist()
    }
    for feature, box in zip(features, boxes, strict=True):
        mpp = float(feature["properties"]["classification"]["name"].split()[0])
        share = planned[mpp, *box.bounds[:2]]
        assert feature["properties"]["measurements"]["tissue"] == pytest.approx(share)
        assert box.intersection(tissue).area / box.area == pytest.approx(
            share, abs=1e-3
        )


def test_polygons_of_tissue_read_back_as_an_annotation(tmp_path):
    mask = np.zeros((20, 20), bool)
    mask[4:15, 3:17] = True
    mask[8:10, 8:12] = False
    write_tissue(tmp_path / "a.geojson", mask, 16.0, (320, 320))
    (region,) = read_annotation(tmp_path / "a.geojson")
    assert region.name == "tissue"
    assert region.polygon.area == mask.sum() * 16**2
