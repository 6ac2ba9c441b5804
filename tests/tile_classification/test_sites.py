from dataclasses import replace

import numpy as np
from fixtures.tile_samples import planted

from mshisto_ray.learning.metrics import balanced_accuracy
from mshisto_ray.tile_classification.probes import Fold, simpleshot
from mshisto_ray.tile_classification.sites import measure_robustness, sites_left_out


def by_sites(*names, per_slide=30):
    samples = planted(slides=len(names), per_slide=per_slide)
    return replace(samples, site=np.repeat(names, per_slide))


def test_a_probe_sees_no_tile_of_the_site_it_is_tested_on():
    samples, seen = by_sites(*"aabbcc"), []

    def probe(samples, fold):
        seen.append(fold)
        return simpleshot.build()(samples, fold)

    found = sites_left_out(probe, samples, 0.25)
    assert len(seen) == 3 and np.isfinite(found).all()
    for fold in seen:
        (own,) = set(samples.site[fold.test])
        assert (samples.site == own).sum() == len(fold.test)
        known = np.concatenate([fold.train, fold.validation])
        assert own not in samples.site[known] and len(known) == 120
        assert len(fold.validation) == 30
    first = seen[0]
    fold = Fold(first.train, first.validation, first.test, (0, 0))
    np.testing.assert_array_equal(found[first.test], simpleshot.build()(samples, fold))


def test_a_patient_of_two_sites_is_not_learned_from_for_either():
    samples = by_sites(*"aabb")
    samples = replace(samples, site=np.where(np.arange(120) < 15, "b", samples.site))

    def probe(samples, fold):
        groups = set(samples.group[fold.test])
        assert not groups & set(samples.group[fold.train])
        return simpleshot.build()(samples, fold)

    assert np.isfinite(sites_left_out(probe, samples, 0)).all()


def test_a_site_that_alone_has_a_class_cannot_be_left_out():
    samples = by_sites(*"aab")
    target = np.where(samples.site == "b", samples.target, 0)
    samples = replace(samples, target=target)
    found = sites_left_out(simpleshot.build(), samples, 0)
    assert np.isnan(found[samples.site == "b"]).all()
    assert np.isfinite(found[samples.site == "a"]).all()


def test_measures_of_tiles_that_follow_their_class():
    samples = by_sites(*"aabbcc")
    found = measure_robustness(samples, simpleshot.build(), 0)
    assert found.index.low <= found.index.value <= found.index.high
    assert found.index.value > 0.9 and found.clustering > 0.5
    assert found.left_out is not None
    probabilities = sites_left_out(simpleshot.build(), samples, 0)
    assert found.left_out.values["balanced_accuracy"] == balanced_accuracy(
        probabilities, samples.target
    )
