"""Sweeps on simulated cohorts where the AUROC of every trained model is known."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from mshisto_ray import config as configs
from mshisto_ray.jobs.benchmarks._made_bags import bags_of
from mshisto_ray.learning.retraining.refits import refit_interval, run_refits
from mshisto_ray.learning.sweep.nested_choice import (
    choices_within_folds,
    choose_within_folds,
)
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.cross_validation import CrossValidation, cross_validate
from mshisto_ray.mil.fit.fold_model import FoldModel
from mshisto_ray.mil.fit.scoring import predict_values
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.statistics.bootstrap import Interval

_DIM, _METRIC = 10, "auroc"
_CPU = torch.device("cpu")
_LINEAR = {
    "bags": "made.parquet",  # no file: bags are in memory
    "pooling": {"name": "embedding_mean"}, "hidden": [], "dropout": 0, "epochs": 15,
    "batch_size": 32, "early_stopping": None, "optimiser": {"name": "sgd", "lr": 0.1},
}  # fmt: skip
_POINTS: Mapping[str, Mapping[str, Any]] = {
    "all": {},
    "pca": {"reduction": {"name": "pca", "dim": 5}},
}


@dataclass(frozen=True)
class SweptCohort:
    """Intervals of AUROC of one sweep, and the AUROC that its models have.

    ``held``: of the choice within folds, the trained models held; ``wide``: that with
    refits; ``true``: in the whole population, the mean over the chosen fold models.
    """

    held: Interval
    wide: Interval
    true: float


def sweep_cohort(
    patients: int, auroc: float, refits: int, rng: np.random.Generator
) -> SweptCohort:
    """Sweep two linear models on a cohort, with refits, as ``sweep`` does.

    Patients have one instance of ten normal features; in the positive half the mean of
    one of them lies so far that the best linear score has the ``auroc``.
    """
    shift = 2**0.5 * float(norm.ppf(auroc))
    values = rng.standard_normal((patients, _DIM))
    labels = np.arange(patients) % 2
    values[labels == 1, 0] += shift
    bags = _bags(values, labels)
    found: dict[str, CrossValidation] = {}
    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root) / name for name in _POINTS}
        for name, keys in _POINTS.items():
            config = configs.validate(ExperimentConfig, {**_LINEAR, **keys})
            found[name] = cross_validate(bags, config.plan(bags), config, _CPU)
            folders[name].mkdir()
            run_refits(folders[name], bags, config, refits)
        validation = {n: r.validation for n, r in found.items() if r.validation}
        test = {name: result.test for name, result in found.items()}
        held = choose_within_folds(validation, test, _METRIC).value
        refitted = refit_interval(folders, held, _METRIC, bags.kind)
    assert refitted is not None
    chosen = choices_within_folds(validation, test, _METRIC)
    true = [_true_auroc(found[n].models[fold], shift) for (_, fold), n in chosen]
    return SweptCohort(held, refitted.interval, float(np.mean(true)))


def _bags(values: np.ndarray, labels: np.ndarray) -> Bags:
    """Bags of one instance."""
    offsets = np.arange(len(labels) + 1, dtype=np.int64)
    return bags_of(values.astype(np.float32), offsets, labels)


def _true_auroc(model: FoldModel, shift: float) -> float:
    """AUROC in the population of a model whose logit is linear in the features."""
    weights = _weights(model)
    along = shift * weights[0] / np.linalg.norm(weights)
    return float(norm.cdf(along / 2**0.5))


def _weights(model: FoldModel) -> np.ndarray:
    """The logit's change along each feature, [10]."""
    bags = _bags(
        np.concatenate([np.zeros((1, _DIM)), np.eye(_DIM)]), np.zeros(_DIM + 1)
    )
    batches = Batches(bags, model.standardisation, _CPU)
    index = np.arange(_DIM + 1)
    given = predict_values(model.model, batches, index, bags.kind, model.fitted)
    logits = np.log(given[:, 1]) - np.log(given[:, 0])
    return logits[1:] - logits[0]
