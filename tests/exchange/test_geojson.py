import json

import numpy as np
import shapely
import shapely.geometry

from mshisto_ray.exchange.geojson import write_tiles


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
    # QuPath's reader takes no NaN.
    assert second["properties"]["measurements"] == {"attention": 0.75}


def test_no_tiles_are_an_empty_collection(tmp_path):
    nothing = np.zeros(0)
    write_tiles(tmp_path / "a.geojson", nothing, nothing, nothing, {"a": nothing})
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []
