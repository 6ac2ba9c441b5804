import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from mshisto_ray.evaluation.robustness import (
    clustering_score,
    index_of,
    paired_robustness_index,
    robustness_index,
)


def drawn(by_class, by_site, num=120, seed=0):
    """Embeddings that lie apart by class and by site, four tiles a slide."""
    rng = np.random.default_rng(seed)
    group = np.arange(num) // 4
    target, site = np.arange(num) % 2, group % 3
    values = rng.normal(size=(num, 8))
    values[:, 0] += by_class * (2 * target - 1)
    values[np.arange(num), 1 + site] += by_site
    return values, target, site, group


def by_loops(values, target, site, group, k):
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    counts = []
    for i in range(len(unit)):
        others = np.flatnonzero(group != group[i])
        model = NearestNeighbors(n_neighbors=k, metric="cosine").fit(unit[others])
        near = others[model.kneighbors(unit[i : i + 1])[1][0]]
        same, here = target[near] == target[i], site[near] == site[i]
        counts.append(((same & ~here).sum(), (~same & here).sum()))
    return np.array(counts).T


@pytest.mark.parametrize("k", [1, 7, 30])
def test_counts_are_those_of_loops(k):
    given = drawn(1.0, 1.0)
    found = robustness_index(*given, k=k)
    np.testing.assert_array_equal(np.stack(found), by_loops(*given, k))


def test_the_index_tells_class_from_site():
    by_class = index_of(*robustness_index(*drawn(9, 0), k=10))
    by_site = index_of(*robustness_index(*drawn(0, 9), k=10))
    assert by_class > 0.99 and by_site < 0.1
    assert np.isnan(index_of(np.zeros(3), np.zeros(3)))


def test_no_neighbour_is_of_the_own_group():
    values, target, site, _ = drawn(1, 1)
    one_group = np.zeros(len(values), int)
    same, other = robustness_index(values, target, site, one_group)
    assert not same.any() and not other.any()


def test_clusters_by_class_score_high_and_by_site_low():
    values, target, site, _ = drawn(9, 0)
    assert clustering_score(values, target, site) > 0.9
    values, target, site, _ = drawn(0, 9)
    assert clustering_score(values, target, site) < -0.9


def test_the_score_is_that_of_scikit_learn():
    values, target, site, _ = drawn(3, 2)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)

    def labels(num, seed):
        return KMeans(num, n_init=1, random_state=seed).fit(unit).labels_

    heights = {
        num: silhouette_score(unit, labels(num, 0), metric="cosine")
        for num in range(2, 31)
    }
    num = max(heights, key=lambda n: heights[n])
    wanted = [
        adjusted_rand_score(target, labels(num, seed))
        - adjusted_rand_score(site, labels(num, seed))
        for seed in range(3)
    ]
    found = clustering_score(values, target, site, seeds=3)
    assert found == pytest.approx(np.mean(wanted))


def three_classes(num=180, seed=1):
    """Three classes, of which the third site lacks one; six tiles a slide."""
    rng = np.random.default_rng(seed)
    group = np.arange(num) // 6
    site = group % 3
    target = np.where(site == 2, np.arange(num) % 2, np.arange(num) % 3)
    values = rng.normal(size=(num, 8))
    values[np.arange(num), target] += 1.5
    values[np.arange(num), 3 + site] += 1.0
    return values, target, site, group


# RobustnessIndex.compute_curve of croma 1.0.1 on the same embeddings, group_id the
# slide: evaluation_design "all", and "paired_2x2" with a subset for each complete pair.
CROMA = {
    "two": {1: (0.8103448275862069, 0.6451612903225806),
            7: (0.8183962264150944, 0.6689655172413793),
            30: (0.7724425887265136, 0.615648201027984)},
    "three": {1: (0.6071428571428571, 0.6338797814207651),
              7: (0.6219931271477663, 0.6008676789587852),
              30: (0.6264637002341921, 0.5846605845059533)},
}  # fmt: skip


@pytest.mark.parametrize("name", CROMA)
def test_the_indices_are_those_of_croma(name):
    given = drawn(1.0, 1.0) if name == "two" else three_classes()
    for k, wanted in CROMA[name].items():
        found = (
            index_of(*robustness_index(*given, k=k)),
            index_of(*paired_robustness_index(*given, k=k)),
        )
        assert found == pytest.approx(wanted, abs=1e-12)


def test_without_a_complete_pair_there_is_no_paired_index():
    values, target, _, group = drawn(1, 1)
    assert np.isnan(index_of(*paired_robustness_index(values, target, target, group)))
