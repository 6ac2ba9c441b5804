"""Pairs keep their rules; ADDR, AUC and rank against their definitions."""

import numpy as np
import pytest

from mshisto_ray.evaluation import descriptor_distance
from mshisto_ray.evaluation.descriptor_distance import (
    Pairs,
    effective_rank,
    label_pairs,
    near_far_pairs,
    separate,
)
from mshisto_ray.evaluation.exclusion import Exclusion
from mshisto_ray.statistics.bootstrap import ClusterDraws


def slides(counts, pitch=250.0, width=10):
    """Tiles of each slide in rows of ``width``: slide [N], centres [N, 2]."""
    slide = np.repeat(np.arange(len(counts)), counts)
    order = np.concatenate([np.arange(count) for count in counts])
    return slide, np.stack([order % width, order // width], 1) * pitch


def test_near_and_far_pairs_keep_their_distances():
    slide, place = slides([120, 80, 60])
    pairs = near_far_pairs(slide, place, 400, 1500, per_tile=6, num_tiles=90)
    apart = np.linalg.norm(place[pairs.first] - place[pairs.second], axis=1)
    assert (slide[pairs.first] == slide[pairs.second]).all()
    assert (apart[~pairs.unlike] <= 400).all() and (apart[~pairs.unlike] > 0).all()
    assert (apart[pairs.unlike] >= 1500).all()
    for kind in (True, False):
        _, times = np.unique(pairs.first[pairs.unlike == kind], return_counts=True)
        assert (times == 6).all()
    assert len(np.unique(pairs.first)) + pairs.alone == 90
    assert set(slide[pairs.first]) == {0, 1, 2}


def test_every_allowed_partner_is_drawn_about_equally_often():
    slide, place = slides([40])
    pairs = near_far_pairs(slide, place, 260, 1800, per_tile=2000, num_tiles=40)
    from_corner = pairs.second[(pairs.first == 0) & ~pairs.unlike]
    rows, times = np.unique(from_corner, return_counts=True)
    assert rows.tolist() == [1, 10]
    assert times == pytest.approx([1000, 1000], rel=0.1)


def test_a_slide_does_not_change_what_is_drawn_of_another():
    slide, place = slides([50, 70])
    both = near_far_pairs(slide, place, 300, 1200, num_tiles=40)
    alone = near_far_pairs(slide[:50], place[:50], 300, 1200, num_tiles=20)
    here = both.first < 50
    np.testing.assert_array_equal(both.second[here], alone.second)


def test_slides_too_small_for_a_far_pair_are_counted():
    slide, place = slides([9])
    pairs = near_far_pairs(slide, place, 300, 9000)
    assert len(pairs.first) == 0 and pairs.alone == 9


def test_label_pairs_keep_classes_and_exclusion(exclusion_of):
    exclusion = exclusion_of(300)
    labels = np.random.default_rng(0).integers(0, 3, 300)
    candidates = np.flatnonzero(labels == 1)
    pairs = label_pairs(labels, candidates, exclusion, per_tile=20, num_tiles=50)
    assert (labels[pairs.first] == 1).all()
    assert ((labels[pairs.second] != 1) == pairs.unlike).all()
    assert not exclusion.is_excluded(pairs.first, pairs.second).any()
    assert len(np.unique(pairs.first)) + pairs.alone == 50


def test_label_pairs_without_another_class_are_counted():
    pairs = label_pairs(np.zeros(6, int), np.arange(6), Exclusion(np.arange(6)))
    assert len(pairs.first) == 0 and pairs.alone == 6


def drawn_pairs(num=60, seed=0):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 40, (2, num))
    return Pairs(np.sort(first), second, rng.integers(0, 2, num) == 1, 0)


def definition(values, pairs, order):
    """ADDR and AUC of some pairs, by their definitions."""
    gaps = [values[pairs.first[i]] - values[pairs.second[i]] for i in order]
    apart = [np.linalg.norm(gap.astype(float)) for gap in gaps]
    unlike = [a for a, i in zip(apart, order, strict=True) if pairs.unlike[i]]
    like = [a for a, i in zip(apart, order, strict=True) if not pairs.unlike[i]]
    wins = [(a > b) + (a == b) / 2 for a in unlike for b in like]
    return np.mean(unlike) / np.mean(like), np.mean(wins)


def test_addr_and_auc_and_their_replicates_equal_the_definition():
    rng = np.random.default_rng(3)
    values = rng.integers(0, 3, (40, 4)).astype(np.float16)  # distances are tied
    pairs = drawn_pairs()
    clusters = pairs.first // 5
    draws = ClusterDraws(clusters, replicates=30)
    found = separate(values, pairs, draws, normalise=False)
    want = definition(values, pairs, range(60))
    assert (found.addr, found.auc) == pytest.approx(want)
    names = np.unique(clusters)
    generator = np.random.default_rng(0)
    chosen = generator.integers(0, len(names), (30, len(names)))
    for replicate, draw in enumerate(chosen):
        order = [i for c in draw for i in np.flatnonzero(clusters == names[c])]
        addr, auc = definition(values, pairs, order)
        assert found.addr_replicates[replicate] == pytest.approx(addr)
        assert found.auc_replicates[replicate] == pytest.approx(auc)


def test_collapse_leaves_addr_without_a_value_and_auc_at_chance():
    pairs = drawn_pairs()
    found = separate(np.ones((40, 3)), pairs, ClusterDraws(pairs.first))
    assert np.isnan(found.addr) and found.auc == 0.5


def test_effective_rank():
    rng = np.random.default_rng(0)
    isotropic = rng.normal(size=(5000, 12))
    assert effective_rank(isotropic, normalise=False) == pytest.approx(12, rel=0.01)
    line = rng.normal(size=(500, 1)) * np.ones((1, 12))
    assert effective_rank(line, normalise=False) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.ones((50, 12))) == pytest.approx(0, abs=1e-6)
    far = isotropic[:, :3] @ np.linalg.qr(rng.normal(size=(12, 3)))[0].T + 100
    assert effective_rank(far, normalise=False) == pytest.approx(3, rel=0.02)


def test_replicate_means_equal_gathering_the_drawn_rows():
    rng = np.random.default_rng(1)
    clusters = rng.permutation(np.repeat(list("abcde"), 6))
    values, where = rng.normal(size=(30, 2)), rng.random(30) < 0.6
    found = ClusterDraws(clusters, replicates=20).means(values, where)
    generator = np.random.default_rng(0)
    for replicate, draw in enumerate(generator.integers(0, 5, (20, 5))):
        rows = [
            i for c in draw for i in np.flatnonzero((clusters == "abcde"[c]) & where)
        ]
        np.testing.assert_allclose(found[replicate], values[rows].mean(0))


def test_one_cluster_has_no_interval():
    assert ClusterDraws(np.zeros(9)).means(np.ones((9, 1))).shape == (0, 1)


def test_large_slides_are_processed_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    slide, place = np.zeros(300, int), rng.uniform(0, 2000, (300, 2))
    keys = {"near_um": 300, "far_um": 900, "per_tile": 3, "num_tiles": 100}
    whole = near_far_pairs(slide, place, **keys)
    monkeypatch.setattr(descriptor_distance, "_DISTANCES", 2000)
    parts = near_far_pairs(slide, place, **keys)
    assert len(whole.first) > 500 and whole.alone == parts.alone
    for name in ("first", "second", "unlike"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
