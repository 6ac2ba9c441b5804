import numpy as np
import pytest

from mshisto_ray.store.same_place import Corners, are_same, find_parents


def squares(rng, num, side, area=400):
    x, y = (rng.integers(0, area, num) for _ in range(2))
    order = np.lexsort((x, y))
    return Corners(x[order], y[order], np.full(num, float(side)))


def by_loop(coarse, fine, ratio):
    rows, ties = [], 0
    for x, y, side in zip(fine.x, fine.y, fine.extent, strict=True):
        at = x + side / 2, y + side / 2
        held = {}
        for i in range(len(coarse.x)):
            start, wide = (coarse.x[i], coarse.y[i]), coarse.extent[i]
            if all(s <= m < s + wide for s, m in zip(start, at, strict=True)):
                apart = [abs(s + wide / 2 - m) for s, m in zip(start, at, strict=True)]
                held[i] = max(apart)
        if ratio is not None:
            held = {
                i: far for i, far in held.items() if coarse.extent[i] == ratio * side
            }
        nearest = [i for i, far in held.items() if far == min(held.values())]
        rows.append(nearest[0] if nearest else -1)
        ties += len(nearest) > 1
    return rows, ties


@pytest.mark.parametrize("side", [30, 31])
@pytest.mark.parametrize("num", [0, 1, 40, 150])
def test_parents_equal_those_of_a_plain_loop(side, num):
    """Coarse tiles that overlap, miss and tie."""
    rng = np.random.default_rng(num + side)
    coarse, fine = squares(rng, num, 2 * side), squares(rng, 300, side)
    found = find_parents(coarse, fine, 2.0)
    rows, ties = by_loop(coarse, fine, 2.0)
    assert found.rows.tolist() == rows and found.ties == ties
    assert num < 40 or (min(rows) == -1 and max(rows) >= 0 and ties)
    points = squares(rng, 300, 0)
    found = find_parents(coarse, points, None)
    rows, ties = by_loop(coarse, points, None)
    assert found.rows.tolist() == rows and found.ties == ties


def test_on_one_grid_parents_are_those_of_row_and_column():
    row, col = (part.ravel() for part in np.mgrid[:12, :9])
    extent = 102.6
    for k in (2, 3, 4):
        up, left = (part.ravel() for part in np.mgrid[: 12 // k, : -(-9 // k)])
        coarse, fine = (
            Corners(
                np.round(c * side).astype(int),
                np.round(r * side).astype(int),
                np.full(len(r), side),
            )
            for r, c, side in ((up, left, k * extent), (row, col, extent))
        )
        found = find_parents(coarse, fine, float(k))
        assert found.rows.tolist() == ((row // k) * -(-9 // k) + col // k).tolist()
        assert found.ties == 0
        assert (find_parents(coarse, fine, 1.1 * k).rows == -1).all()


def test_the_same_tile_is_within_a_twentieth_of_its_side():
    sides = np.full(4, 100.0)
    ones = Corners(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 0]), sides)
    moved = Corners(np.array([0, 5, 6, -6]), np.array([0, -5, 0, 0]), sides)
    assert are_same(ones, moved).tolist() == [True, True, False, False]
    assert not are_same(ones, Corners(moved.x, moved.y, 1.1 * sides)).any()
