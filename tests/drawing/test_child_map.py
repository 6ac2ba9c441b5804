import numpy as np

from mshisto_ray.drawing.child_map import CoarseTile, draw_child_maps

SIDE = 220


def quarters():
    return np.array([[c / 2, r / 2, (c + 1) / 2, (r + 1) / 2]
                     for r in range(2) for c in range(2)])  # fmt: skip


def drawn(weights, boxes):
    white = np.full((64, 64, 3), 255, np.uint8)
    page = np.asarray(
        draw_child_maps([CoarseTile(white, boxes, np.array(weights), "a")], "title")
    )
    left, top = 12 + SIDE + 4, 38
    area = page[top : top + SIDE, left : left + SIDE]
    return [tuple(area[r, c]) for r in (60, 160) for c in (60, 160)]


def test_children_have_the_colour_of_their_weight():
    low, _, _, high = drawn([0.1, 0.2, 0.3, 0.4], quarters())
    # viridis goes from purple to yellow.
    assert low[2] > low[1] and high[1] > high[2]


def test_an_absent_child_is_left_as_it_is():
    found = drawn([0.4, 0.6], quarters()[:2])
    assert found[2:] == [(255, 255, 255)] * 2 and (255, 255, 255) not in found[:2]


def test_equal_weights_and_an_only_child_have_one_colour():
    assert len(set(drawn([0.25] * 4, quarters()))) == 1
    assert drawn([1.0], quarters()[:1])[0] != (255, 255, 255)


def test_many_tiles_go_into_rows():
    tile = CoarseTile(np.zeros((8, 8, 3), np.uint8), quarters(), np.ones(4) / 4, "b")
    one, seven = (draw_child_maps([tile] * n, "t").size for n in (1, 7))
    assert one[0] < seven[0] and one[1] < seven[1]
    assert draw_child_maps([tile] * 3, "t").size[1] == one[1]
