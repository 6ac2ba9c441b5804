"""Neighbours against a naive loop, whatever is left out, tied or badly scaled."""

import numpy as np
import pytest

from mshisto_ray.evaluation import _search
from mshisto_ray.evaluation.exclusion import Exclusion
from mshisto_ray.evaluation.neighbours import distances, nearest, nearest_across


def naive(values, query, k, exclusion, normalise):
    """Row by row: distance of float32 vectors, exclusion, sort by (distance, row)."""
    points = values.astype(np.float64)
    if normalise:
        length = np.linalg.norm(points, axis=1, keepdims=True)
        points = points / np.where(length > 0, length, 1)
    found = []
    for row in range(len(values)):
        left_out = exclusion.group[row] == exclusion.group[query]
        if exclusion.place is not None:
            apart = np.hypot(*(exclusion.place[row] - exclusion.place[query]))
            left_out &= apart <= exclusion.radius_um
        if not left_out and row != query:
            found.append((np.sqrt(((points[row] - points[query]) ** 2).sum()), row))
    found = sorted(found)[:k] + [(np.inf, -1)] * max(0, k - len(found))
    return [row for _, row in found], [distance for distance, _ in found]


def embeddings(kind, num, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(num, 16))
    if kind == "tied":  # five distinct vectors: nearly every distance is tied
        values = values[rng.integers(0, 5, num)]
    if kind == "collapsed":
        values = np.ones((num, 16))
    if kind == "far off":  # products of these cancel in float32
        values = values * 1e-2 + 300
    if kind == "with zeros":
        values[::7] = 0
    return values.astype(np.float16 if kind == "half" else np.float32)


KINDS = ["plain", "half", "tied", "collapsed", "far off", "with zeros"]


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_a_naive_loop(monkeypatch, exclusion_of, kind, normalise):
    monkeypatch.setattr(_search, "_BATCH", 37)
    monkeypatch.setitem(_search._BLOCK, "cpu", 64)
    values, exclusion = embeddings(kind, 300), exclusion_of(300)
    queries = np.random.default_rng(1).permutation(300)[:80]
    found = nearest(values, queries, 5, exclusion, normalise)
    for query, rows, distance in zip(queries, found.rows, found.distance, strict=True):
        want_rows, want_distance = naive(values, query, 5, exclusion, normalise)
        assert rows.tolist() == want_rows
        np.testing.assert_allclose(distance, want_distance, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_batches_change_nothing(monkeypatch, exclusion_of, kind):
    values, exclusion = embeddings(kind, 2000, seed=3), exclusion_of(2000)
    queries = np.arange(0, 2000, 7)
    whole = nearest(values, queries, 6, exclusion)
    for batch, block in ((1, 2000), (50, 13), (1000, 333)):
        monkeypatch.setattr(_search, "_BATCH", batch)
        monkeypatch.setitem(_search._BLOCK, "cpu", block)
        found = nearest(values, queries[:60], 6, exclusion)
        np.testing.assert_array_equal(found.rows, whole.rows[:60])
        np.testing.assert_array_equal(found.distance, whole.distance[:60])


def test_never_finds_an_excluded_row_even_where_only_those_are_near(exclusion_of):
    """Every group far from the others: all of the nearest are forbidden."""
    exclusion = exclusion_of(900)
    rng = np.random.default_rng(0)
    values = 50 * rng.normal(size=(exclusion.group.max() + 1, 8))[exclusion.group]
    values = (values + rng.normal(size=(900, 8))).astype(np.float32)
    queries = np.arange(900)
    found = nearest(values, queries, 10, exclusion, normalise=False)
    there = found.rows >= 0
    assert there.any()
    left_out = exclusion.is_excluded(queries[:, None], found.rows)
    assert not left_out[there].any()
    assert np.isinf(found.distance[~there]).all()


def test_few_rows_leave_places_empty():
    values = np.eye(4, dtype=np.float32)
    found = nearest(values, np.array([2, 0]), 3, Exclusion(np.array([0, 0, 1, 1])))
    assert found.rows.tolist() == [[0, 1, -1], [2, 3, -1]]
    alone = nearest(values, np.arange(4), 2, Exclusion(np.zeros(4, int)))
    assert (alone.rows == -1).all() and np.isinf(alone.distance).all()


def test_allowed_counts_equal_a_naive_count(exclusion_of):
    exclusion = exclusion_of(250)
    labels = np.random.default_rng(5).integers(0, 3, 250)
    queries = np.arange(0, 250, 3)
    counts = exclusion.allowed_counts(queries, labels, 4)
    for query, count in zip(queries, counts, strict=True):
        want = [0] * 4
        for row in range(250):
            want[labels[row]] += not exclusion.is_excluded(query, np.array(row))
        assert count.tolist() == want


def test_rows_that_are_not_sorted_by_group_are_an_error():
    with pytest.raises(AssertionError, match="sorted by group"):
        Exclusion(np.array([0, 1, 0]))


def test_across_sets_finds_the_nearest_of_the_other_set():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 9)).astype(np.float32)
    vectors = (3 * values[[7, 31, 2]] + 1e-3).astype(np.float32)
    assert nearest_across(vectors, values, 1).rows[:, 0].tolist() == [7, 31, 2]
    unlike = nearest_across(vectors, values, 50, normalise=False)
    want = np.linalg.norm(vectors[:, None] - values[None], axis=2)
    np.testing.assert_array_equal(unlike.rows, want.argsort(1))


def test_distances_of_pairs():
    values = np.array([[3, 4], [6, 8], [0, 5]], np.float16)
    first, second = np.array([0, 0]), np.array([1, 2])
    assert distances(values, first, second, False) == pytest.approx([5, np.sqrt(10)])
    unit = distances(values, first, second)
    assert unit == pytest.approx([0, np.sqrt(0.6**2 + 0.2**2)], abs=1e-7)
