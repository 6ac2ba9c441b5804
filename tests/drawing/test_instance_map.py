"""Pictures of a bag's small images and their scores."""

import numpy as np

from mshisto_ray.drawing import instance_map
from mshisto_ray.drawing.instance_map import draw_instances


def test_images_are_weighted_by_rescaled_scores():
    images = np.full((5, 4, 3, 3), 200, np.uint8)
    scores = np.array([0.1, 0.3, 0.2, 0.1, 0.1])
    panel = np.asarray(instance_map._panel(images, instance_map.rescale(scores)))
    side = round(520 / (3 * 5))  # enlarged
    found = panel[::side, ::side]
    assert found.shape == (12, 15, 3)
    # Row by row, three to a row, two pixels apart; the places left over are black.
    assert found[0, 5, 0] == 200 and found[0, 10, 0] == 100 and found[0, 0, 0] == 0
    assert not found[:, [3, 4, 8, 9]].any() and not found[6:, 10:].any()


def test_the_picture_has_three_panels_of_the_same_images():
    rng = np.random.default_rng(0)
    images = rng.integers(100, 255, (7, 9, 9, 3)).astype(np.uint8)
    picture = draw_instances(images, np.arange(7.0), np.arange(7) > 5, "a bag")
    assert picture.mode == "RGB" and picture.width > 3 * picture.height / 2
    same = draw_instances(images, np.zeros(7), np.zeros(7, bool), "a bag")
    assert np.asarray(same)[100:, same.width // 2 :].min() == 0  # no score: black
