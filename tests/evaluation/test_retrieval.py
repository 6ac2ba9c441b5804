"""Scores by hand, chance by every order there is, and a naive loop over queries."""

import itertools
from collections import Counter

import numpy as np
import pytest

from mshisto_ray.evaluation.exclusion import Exclusion
from mshisto_ray.evaluation.neighbours import nearest
from mshisto_ray.evaluation.retrieval import (
    cross_scale_hits,
    metric_names,
    plan_retrieval,
    retrieve,
)

HIT, MAJORITY, PRECISION = metric_names(10)


def on_a_line(labels, slides=None, depth=10, queries=(0,)):
    """Row i at place i of a line, so that row 0 finds 1, 2, 3 ... in this order."""
    labels = np.array(labels)
    values = np.arange(len(labels), dtype=np.float32)[:, None]
    group = np.arange(len(labels)) if slides is None else np.array(slides)
    task = plan_retrieval(labels, np.array(queries), Exclusion(group), depth)
    scores, found = retrieve(task, values, normalise=False)
    return task, {name: score.tolist() for name, score in scores.items()}, found


@pytest.mark.parametrize(
    ("labels", "hit", "majority", "precision"),
    [
        ([1, 1, 1, 1, 1, 1], 1, 1, 1),
        ([1, 0, 0, 0, 1, 1], 0, 0, (1 / 4 + 2 / 5) / 2),
        ([1, 0, 1, 0, 1, 0, 1], 0, 0, (1 / 2 + 2 / 4 + 3 / 6) / 3),
        # Two votes each: the class of the nearest row wins.
        ([1, 1, 0, 0, 1, 2], 1, 1, (1 + 2 / 4) / 2),
        ([1, 0, 1, 1, 0, 2], 0, 0, (1 / 2 + 2 / 3) / 2),
        # A single row of another class is nearest but has fewer votes.
        ([1, 2, 0, 1, 1, 0], 0, 0, (1 / 3 + 2 / 4) / 2),
        ([1, 2, 1, 0, 1, 3], 0, 1, (1 / 2 + 2 / 4) / 2),
        # Fewer rows than votes.
        ([1, 0, 1], 0, 0, 1 / 2),
        ([1, 1, 0], 1, 1, 1),
    ],
)
def test_scores_by_hand(labels, hit, majority, precision):
    _, scores, _ = on_a_line(labels)
    assert scores[HIT] == [hit]
    assert scores[MAJORITY] == [majority]
    assert scores[PRECISION] == [pytest.approx(precision)]


def test_the_denominator_of_map_is_fixed():
    """Relevant rows beyond k, or not found at all, still count in it."""
    task, scores, _ = on_a_line([1, 1, 0, 0, 0, 1, 1, 1], depth=2)
    assert task.num_relevant.tolist() == [4]
    assert scores["map_at_2"] == [pytest.approx(1 / 2)]
    _, scores, _ = on_a_line([1, 1, 0, 0, 0, 1, 1, 1], depth=3)
    assert scores["map_at_3"] == [pytest.approx(1 / 3)]


def test_queries_without_a_relevant_row_are_left_out_and_counted():
    labels = [0, 0, 1, 1, 2, 0, 2]
    slides = [0, 0, 0, 0, 1, 1, 1]
    task, scores, _ = on_a_line(labels, slides, queries=range(7))
    assert task.queries.tolist() == [0, 1, 5]
    assert task.without_target == {0: 0, 1: 2, 2: 2}
    assert all(len(values) == 3 for values in scores.values())


def draws(labels, own, depth):
    """Every order of the rows, scored by definition: {metric: mean}."""
    total = Counter()
    orders = list(itertools.permutations(labels))
    for order in orders:
        total["hit"] += order[0] == own
        votes = Counter(order[:5])
        best = max(votes.values())
        total["majority"] += next(x for x in order if votes[x] == best) == own
        hits = 0
        for place, label in enumerate(order[:depth], start=1):
            hits += label == own
            total["precision"] += (label == own) * hits / place
    top = total["precision"] / min(depth, labels.count(own))
    return [
        total["hit"] / len(orders),
        total["majority"] / len(orders),
        top / len(orders),
    ]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 1, 1, 1, 2, 2, 3],
        [0, 1, 2, 3, 4, 5],
        [0, 0, 0, 1, 2, 2, 3],
        [0, 1, 1, 1, 1, 1],
        [0, 0, 1, 2, 3, 4, 4],
    ],
)
@pytest.mark.parametrize("depth", [2, 10])
def test_chance_is_the_mean_over_every_order(labels, depth):
    order = [0, *labels]
    task = plan_retrieval(
        np.array(order), np.array([0]), Exclusion(np.arange(len(order))), depth
    )
    found = [task.chance[name][0] for name in metric_names(depth)]
    assert found == pytest.approx(draws(labels, 0, depth))


def test_random_embeddings_score_at_chance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 3000) % 3
    exclusion = Exclusion(np.arange(3000) // 100)
    task = plan_retrieval(labels, np.arange(3000), exclusion)
    scores, _ = retrieve(task, rng.normal(size=(3000, 6)).astype(np.float32))
    for name in metric_names(10):
        assert scores[name].mean() == pytest.approx(task.chance[name].mean(), abs=0.03)


def test_equal_to_a_naive_loop(exclusion_of):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 200)
    values = rng.normal(size=(200, 5)).astype(np.float32) + labels[:, None]
    exclusion = exclusion_of(200)
    queries = np.flatnonzero(labels > 0)
    task = plan_retrieval(labels, queries, exclusion)
    scores, _ = retrieve(task, values)
    everything = nearest(values, task.queries, 200, exclusion)
    for place, query in enumerate(task.queries):
        rows = [row for row in everything.rows[place] if row >= 0]
        same = [labels[row] == labels[query] for row in rows]
        assert sum(same) == task.num_relevant[place]
        assert scores[HIT][place] == same[0]
        assert task.chance[HIT][place] == pytest.approx(np.mean(same))
        found = sum(
            sum(same[: i + 1]) / (i + 1) for i in range(min(10, len(same))) if same[i]
        )
        want = found / min(10, sum(same))
        assert scores[PRECISION][place] == pytest.approx(want)


def test_a_tile_finds_its_parent_at_the_coarser_scale():
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(40, 8)).astype(np.float32)
    parents = rng.integers(0, 40, 100)
    fine = coarse[parents] + 1e-3
    hits = cross_scale_hits(fine, coarse, parents, (1, 10))
    assert hits.shape == (100, 2) and hits.all()
    wrong = cross_scale_hits(fine, coarse, (parents + 1) % 40, (1, 40))
    assert not wrong[:, 0].any() and wrong[:, 1].all()
