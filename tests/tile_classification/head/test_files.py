"""What a head records of the patients that its models have seen."""

import json
from dataclasses import replace

import numpy as np
import torch
from fixtures.tile_samples import planted

from mshisto_ray.config import validate
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.representation.normalise import Standardisation
from mshisto_ray.tile_classification.head.config import TileModelConfig
from mshisto_ray.tile_classification.head.files import save_heads
from mshisto_ray.tile_classification.head.fit import TileModel, make_model
from mshisto_ray.tile_classification.head.run import draw_folds


def folds_of(samples, folder):
    splits = draw_folds(samples, SplitConfig(folds=2, repeats=2, validation=0))
    config = validate(TileModelConfig, {"patience": None})
    width = samples.features.dim
    plain = Standardisation(torch.zeros(width), torch.ones(width))
    model = TileModel(make_model(config, width, 2), plain, 1, ())
    save_heads(folder, samples, splits, [model] * len(splits), config)
    return splits, json.loads((folder / "model.json").read_text())["folds"]


def test_a_patient_is_tested_by_the_fold_that_holds_all_of_its_tiles(tmp_path):
    samples = planted(slides=6, per_slide=4)
    splits, folds = folds_of(samples, tmp_path / "a")
    for split in splits:
        for name in {samples.groups[g] for g in samples.group[split.test]}:
            assert folds[name][split.repeat] == split.fold


def test_a_patient_in_several_groups_is_tested_by_none(tmp_path):
    samples = planted(slides=6, per_slide=4)
    # Two patients of three slides; what stays together is a slide.
    patients = tuple("aaabbb")
    _, folds = folds_of(replace(samples, patients=patients), tmp_path / "a")
    assert folds == {"a": [-1, -1], "b": [-1, -1]}
    assert np.isin(samples.group, np.arange(6)).all()
