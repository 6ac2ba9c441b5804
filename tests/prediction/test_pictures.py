"""Which scores of a prediction are drawn, and where."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures.odd_slides import on_glass, write, write_scn
from PIL import Image

from mshisto_ray.prediction import child_maps, pictures
from mshisto_ray.prediction.layers import layers_of
from mshisto_ray.slides import Watchdog


def attended(tiles):
    """The tiles of slide "a", and a prediction that attends to the last ones most."""
    table = tiles.read("a")
    names = ("x", "y", "extent", "row", "col")
    place = {name: table[name].to_numpy() for name in names}
    part = SimpleNamespace(
        tiles=SimpleNamespace(slide_id="a", **place), finer=[], children=[]
    )
    prediction = SimpleNamespace(
        probabilities=[np.array([0.25, 0.75])],
        attention=np.linspace(0, 1, table.num_rows), class_attention=None,
        instance_probabilities=None, child_attention=(),
    )  # fmt: skip
    return part, prediction


def test_a_middle_tile_matters_as_much_as_its_parent_gives_it(monkeypatch):
    """And scales without tiles are not drawn."""
    drawn = []
    monkeypatch.setattr(
        child_maps,
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
    maps = list(child_maps.child_maps(None, part, weights, attention, ""))
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
    part, prediction = attended(tiles)
    failures = []
    painter = pictures.Painter(tiles, tmp_path / "out", {}, Watchdog())
    painter.draw(SimpleNamespace(classes=("a", "b")), [part], prediction, failures)
    assert not failures
    text = (tmp_path / "out" / "heatmaps" / "a.geojson").read_text()
    rings = [f["geometry"]["coordinates"][0] for f in json.loads(text)["features"]]
    corners = np.array(rings)[:, 0]
    np.testing.assert_array_equal(corners[:, 0], part.tiles.x - 1500)
    np.testing.assert_array_equal(corners[:, 1], part.tiles.y - 1800)


def test_a_damaged_file_is_not_drawn_again(tmp_path):
    """One that is not there may come back."""
    (tmp_path / "a.svs").write_bytes(b"no slide")
    records = {
        name: {"path": str(tmp_path / name), "reader": "openslide", "mpp": 0.5}
        for name in ("a.svs", "gone.svs")
    }
    tiles = SimpleNamespace(slides=records)
    painter = pictures.Painter(tiles, tmp_path, {}, Watchdog())
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
    layers = layers_of(head, prediction, slice(1, 3))
    assert {layer.name for layer in layers} == wanted
    for layer in layers:
        assert (layer.scores == scores[1:3, classes.index(layer.name[-1])]).all()
        assert layer.spread == "absolute" and layer.name[-1] in layer.meaning


def test_attention_says_how_unequal_it_is():
    prediction = SimpleNamespace(
        attention=np.array([0.1, 0.1, 0.6, 0.2]), instance_probabilities=None,
        class_attention=np.array([[0.25, 0.1]] * 4),
    )  # fmt: skip
    head = SimpleNamespace(classes=("a", "b"))
    layers = layers_of(head, prediction, slice(0, 4))
    assert [layer.name for layer in layers] == ["attention", "attention_a",
                                                "attention_b"]  # fmt: skip
    assert "of 4 tiles has 2.4 times the mean" in layers[0].meaning
    assert "has 1 times the mean" in layers[1].meaning and "for a:" in layers[1].meaning
    assert {layer.spread for layer in layers} == {"percentile"}


def test_outlines_and_label_of_the_cohort_are_drawn(tile_slides, tmp_path, monkeypatch):
    """And the highest and lowest tiles, each in one row alone."""
    path = write(tmp_path / "a.tif", [on_glass(1200, 1000, 200, 200, 700, 600)])
    tiles = tile_slides({"a": (path, {})}, scales=[0.5])
    annotation = tmp_path / "a.geojson"
    ring = [[300, 300], [700, 300], [700, 600], [300, 300]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    kind = {"classification": {"name": "tumour"}}
    annotation.write_text(json.dumps(
        {"type": "Feature", "geometry": shape, "properties": kind}))  # fmt: skip
    part, prediction = attended(tiles)
    seen = {}
    for name in ("draw_heatmap", "draw_gallery"):
        whole = getattr(pictures, name)
        monkeypatch.setattr(
            pictures, name,
            lambda *a, name=name, whole=whole: seen.setdefault(name, a) and whole(*a),
        )  # fmt: skip
    truth = {"a": pictures.Truth("b", annotation)}
    painter, failures = pictures.Painter(tiles, tmp_path / "out", truth, Watchdog()), []
    painter.draw(SimpleNamespace(classes=("a", "b")), [part], prediction, failures)
    assert not failures
    *_, caption, _, outlines = seen["draw_heatmap"]
    assert caption.title == "a  predicted b, p=0.750, label b"
    ((name, points),) = outlines
    assert name == "tumour" and sorted(map(tuple, points[:-1].tolist())) == [
        (300, 300), (700, 300), (700, 600)]  # fmt: skip
    _, _, highest, lowest, title = seen["draw_gallery"]
    found = [[tile.score for tile in row] for row in (highest, lowest)]
    assert found == [[1.0, 0.8, pytest.approx(0.6)], [0, 0.2, 0.4]]  # of six tiles
    assert title.endswith("tiles by attention")
    with Image.open(tmp_path / "out" / "heatmaps" / "a.tiles.png") as page:
        assert page.width > 3 * 168
