"""Which scores of a prediction are drawn, and where."""

from types import SimpleNamespace

import numpy as np
import pytest

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
