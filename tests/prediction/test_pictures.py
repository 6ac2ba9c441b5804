"""Which scores of a prediction are drawn, and where."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures.odd_slides import on_glass, write_scn

from mshisto_ray.prediction import pictures


def test_a_middle_tile_matters_as_much_as_its_parent_gives_it(monkeypatch):
    """And scales without tiles are not drawn."""
    drawn = []
    monkeypatch.setattr(
        pictures,
        "_child_map",
        lambda slide, tiles, fine, counts, weights, attention, title: drawn.append(
            (tiles.mpp[0], fine.mpp[0], attention.tolist())
        ),
    )
    scales = [SimpleNamespace(mpp=np.full(n, mpp)) for n, mpp in ((2, 4.0), (3, 2.0),
              (4, 1.0), (0, 0.5))]  # fmt: skip
    counts = [np.array(c) for c in ([2, 1], [2, 0, 2], [0] * 4)]
    children = [SimpleNamespace(counts=c) for c in counts]
    part = SimpleNamespace(tiles=scales[0], finer=scales[1:], children=children)
    weights = [np.array(w) for w in ([0.5, 0.5, 1], [0.25, 0.75, 0.5, 0.5], [])]
    attention = np.array([0.75, 0.25])
    maps = list(pictures._child_maps(None, part, weights, attention, ""))
    assert [fine.mpp[0] for fine, _, _ in maps] == [2.0, 1.0]
    assert maps[0][1]["attention"].tolist() == [0.375, 0.375, 0.25]
    assert maps[1][1]["child_attention"] is weights[1]
    assert drawn == [(4, 2, [0.75, 0.25]), (2, 1, [0.375, 0.375, 0.25])]


@pytest.mark.parametrize("is_recorded", [True, False])
def test_geojson_counts_from_the_scanned_area(tile_slides, tmp_path, is_recorded):
    """As QuPath shows it; also where the tiles directory is older than the record."""
    area = on_glass(1200, 1000, 200, 200, 700, 600)
    path = write_scn(tmp_path / "a.scn", [(area, 1500, 1800)], 4000, 4000)
    tiles = tile_slides({"a": (path, {})}, scales=[0.5])
    if not is_recorded:
        del tiles.slides["a"]["bounds_x"], tiles.slides["a"]["bounds_y"]
    table = tiles.read("a")
    place = {name: table[name].to_numpy() for name in ("x", "y", "extent", "row")}
    part = SimpleNamespace(
        tiles=SimpleNamespace(slide_id="a", **place), finer=[], children=[]
    )
    scores = np.linspace(0, 1, table.num_rows)
    prediction = SimpleNamespace(
        probabilities=[np.array([0.25, 0.75])], attention=scores, class_attention=None,
        instance_probabilities=None, child_attention=(),
    )  # fmt: skip
    failures = []
    painter = pictures.Painter(tiles, tmp_path / "out")
    painter.draw(SimpleNamespace(classes=("a", "b")), [part], prediction, failures)
    assert not failures
    text = (tmp_path / "out" / "heatmaps" / "a.geojson").read_text()
    rings = [f["geometry"]["coordinates"][0] for f in json.loads(text)["features"]]
    corners = np.array(rings)[:, 0]
    np.testing.assert_array_equal(corners[:, 0], place["x"] - 1500)
    np.testing.assert_array_equal(corners[:, 1], place["y"] - 1800)


def test_a_damaged_file_is_not_drawn_again(tmp_path):
    """One that is not there may come back."""
    (tmp_path / "a.svs").write_bytes(b"no slide")
    records = {
        name: {"path": str(tmp_path / name), "reader": "openslide", "mpp": 0.5}
        for name in ("a.svs", "gone.svs")
    }
    painter = pictures.Painter(SimpleNamespace(slides=records), tmp_path)
    prediction = SimpleNamespace(
        probabilities=[np.ones(1)], attention=np.ones(1), class_attention=None,
        instance_probabilities=None, child_attention=(),
    )  # fmt: skip
    kinds = {}
    for name in records:
        tiles = SimpleNamespace(slide_id=name, row=np.zeros(1))
        part = SimpleNamespace(tiles=tiles, finer=[], children=[])
        failures = []
        painter.draw(SimpleNamespace(classes=("a",)), [part], prediction, failures)
        kinds[name] = [failure.kind for failure in failures]
    assert kinds == {"a.svs": ["input"], "gone.svs": ["transient"]}


@pytest.mark.parametrize(
    ("classes", "wanted"),
    [("ab", {"instance_b"}), ("abc", {"instance_a", "instance_b", "instance_c"})],
)
def test_instance_scores_are_drawn_by_class(classes, wanted):
    scores = np.arange(4 * len(classes)).reshape(4, -1)
    prediction = SimpleNamespace(
        attention=None, class_attention=None, instance_probabilities=scores
    )
    head = SimpleNamespace(classes=tuple(classes))
    layers = pictures._layers(head, prediction, slice(1, 3))
    assert set(layers) == wanted
    for name, column in layers.items():
        assert (column == scores[1:3, classes.index(name[-1])]).all()
