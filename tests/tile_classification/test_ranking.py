from dataclasses import replace

import numpy as np

from mshisto_ray.learning.fold_means import within_folds
from mshisto_ray.learning.tile_metrics import tile_metrics
from mshisto_ray.tile_classification.head.classes import TileClasses
from mshisto_ray.tile_classification.ranking import pooling_note, rank


def scored(noise, seed, num=600, patients=30):
    rng = np.random.default_rng(seed)
    target = np.arange(num) % 2
    score = 1 / (1 + np.exp(-(2 * target - 1 + noise * rng.normal(size=num))))
    return tile_metrics(
        np.stack([1 - score, score], 1), target, np.arange(num) % patients
    )


def test_encoders_that_cannot_be_told_apart_share_a_group():
    scores = {
        "poor": scored(9.0, 0),
        "good": scored(0.8, 1),
        "as good": scored(0.8, 2),
    }
    found = {row.name: row for row in rank(scores, "auroc")}
    assert found["good"].group == found["as good"].group == 1
    assert found["poor"].group == 2 and found["poor"].difference.high < 0
    best, tied = sorted((found["good"], found["as good"]), key=lambda r: -r.score.value)
    assert best.difference is None
    assert tied.difference.low < tied.difference.value <= 0 <= tied.difference.high


def test_one_group_of_tiles_tells_nothing_apart():
    scores = {n: scored(s, 0, patients=1) for n, s in (("a", 0.1), ("b", 9.0))}
    assert [row.group for row in rank(scores, "auroc")] == [1, 1]


def test_a_patient_of_each_class_tells_nothing_apart():
    """With two patients every replicate that has both classes is the same."""
    scores = {n: scored(s, 0, patients=2) for n, s in (("a", 0.1), ("b", 9.0))}
    assert [row.group for row in rank(scores, "balanced_accuracy")] == [1, 1]


def of_two_folds(shift):
    """Two folds that rank as well, their levels ``shift`` apart."""
    rng = np.random.default_rng(0)
    target, fold = np.arange(600) % 2, np.arange(600) // 300
    logit = 4 * target - 2 + rng.normal(size=600) + shift * (fold - 0.5)
    score = 1 / (1 + np.exp(-logit))
    values = np.stack([1 - score, score], 1)
    found = tile_metrics(values, target, np.arange(600) % 30)
    return replace(found, of_folds=within_folds(values, target, fold))


def test_encoders_whose_folds_have_other_levels_are_named():
    scores = {"apart": of_two_folds(9.0), "even": of_two_folds(0.0)}
    note = pooling_note("dense", scores, TileClasses.titles)
    assert note is not None and note.startswith("warning: by dense")
    assert "apart, AUROC: 0." in note and "even" not in note
    assert pooling_note("dense", {"even": scores["even"]}, TileClasses.titles) is None
