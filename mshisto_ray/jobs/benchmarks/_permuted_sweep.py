"""A sweep of cheap linear models on labels that mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit
from sklearn.model_selection import StratifiedKFold, train_test_split

from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.intervals import intervals
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.statistics.permutation import permute_by_patient
from mshisto_ray.statistics.refits import training_variance, widened

_DIM, _FOLDS, _VALIDATION = 40, 5, 0.3
_SHARES = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Chosen:
    """Test intervals of AUROC after one permutation of the labels.

    ``nested``: each fold tests the config that is best on its own validation; ``once``:
    of the config that is best on validation over all folds, whose validation patients
    are test patients of other folds; ``naive``: of the config that is best on test;
    ``wide``: of ``nested``, with what training and choosing anew on redrawn patients
    vary by.
    """

    nested: Interval
    once: Interval
    naive: Interval
    wide: Interval


def permuted_sweeps(
    permutations: int, points: int, patients: int, refits: int
) -> list[Chosen]:
    """Sweep anew for each permutation of the labels of patients, who have one bag each.

    A point is a ridge regression on its own part of 40 features with its own penalty.
    Every fold tests a fifth of the patients; of the others three tenths validate and
    the rest trains.

    Args:
        permutations: of the labels.
        points: configs of a sweep.
        patients: of the cohort, half of them positive.
        refits: redraws of the patients, after each permutation.
    """
    rng = np.random.default_rng(0)
    values = rng.standard_normal((patients, _DIM))
    truth = (np.arange(patients) % 2).astype(np.int64)
    names = np.arange(patients)
    found = []
    for _ in range(permutations):
        labels = permute_by_patient(truth, names, rng)
        sweep = list(_sweep(values, labels, points))
        validated = np.stack([on_validation for on_validation, _ in sweep])
        tested = [predictions for _, predictions in sweep]
        once = tested[int(validated.mean(1).argmax())]
        naive = max(tested, key=_auroc)
        nested = _joined(tested, validated.argmax(0))
        held, chosen, best = (intervals(p)["auroc"] for p in (nested, once, naive))
        wide = widened(held, _factor(values, labels, points, refits), True)
        found.append(Chosen(held, chosen, best, wide))
    return found


def _factor(values: np.ndarray, labels: np.ndarray, points: int, refits: int) -> float:
    """How many times wider an interval is with refits, as ``sweep`` draws them."""
    num = len(labels)
    given, variances, shares = [], [], []
    for refit in range(refits):
        counts = np.random.default_rng(refit).multinomial(num, np.full(num, 1 / num))
        scores = _refit(values, labels, points, counts, refit)
        test = np.flatnonzero(counts == 0)
        whole = [(test[:0], test[:0], np.arange(len(test)))]
        found = Estimates(_predictions(scores, labels[test], whole))
        given.append(found.values["auroc"])
        variances.append(found.variance("auroc")[0])
        shares.append(len(test) / num)
    return training_variance(*map(np.array, (given, variances, shares))).factor


def _refit(
    values: np.ndarray, labels: np.ndarray, points: int, counts: np.ndarray, seed: int
) -> np.ndarray:
    """Scores of the patients that were not drawn, by the point that is chosen.

    ``counts``: how often each patient was drawn.
    """
    drawn, test = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    train, validation = train_test_split(
        drawn, test_size=_VALIDATION, stratify=labels[drawn], random_state=seed
    )
    train = np.asarray(train).repeat(counts[train])
    tested, validated = [], []
    for point in range(points):
        columns, penalty = _model(point)
        own = values[:, columns]
        weights = _ridge(own[train], labels[train], penalty)
        tested.append(own[test] @ weights)
        validated.append(auroc(_two(own[validation] @ weights), labels[validation]))
    return tested[int(np.argmax(validated))]


def holds_chance(interval: Interval) -> bool:
    """Whether an interval holds .5."""
    return interval.low <= 0.5 <= interval.high


def _sweep(
    values: np.ndarray, labels: np.ndarray, points: int
) -> Iterator[tuple[np.ndarray, Predictions]]:
    """Validation AUROC of each fold, and test predictions, of each point."""
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    splits = []
    for rest, test in folds.split(values, labels):
        train, validation = train_test_split(
            rest, test_size=_VALIDATION, stratify=labels[rest], random_state=0
        )
        splits.append((train, validation, test))
    for point in range(points):
        columns, penalty = _model(point)
        scores, on_validation = np.empty(len(labels)), []
        for train, validation, test in splits:
            own = values[:, columns]
            weights = _ridge(own[train], labels[train], penalty)
            scores[test] = own[test] @ weights
            given = _two(own[validation] @ weights)
            on_validation.append(auroc(given, labels[validation]))
        yield np.array(on_validation), _predictions(scores, labels, splits)


def _model(point: int) -> tuple[np.ndarray, float]:
    """The features and the penalty of a point."""
    rng = np.random.default_rng(point)
    share = _SHARES[point % len(_SHARES)]
    columns = rng.permutation(_DIM)[: max(1, round(share * _DIM))]
    return columns, 10 ** rng.uniform(-1, 3)


def _joined(tested: Sequence[Predictions], chosen: np.ndarray) -> Predictions:
    """The predictions of each fold by the point that was chosen in it."""
    first = tested[0]
    given = np.stack([predictions.probabilities for predictions in tested])
    rows = np.arange(len(first))
    return replace(first, probabilities=given[chosen[first.fold], rows])


def _ridge(values: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    """Weights of a ridge regression on labels of -1 and 1; features have mean 0."""
    square = values.T @ values + penalty * np.eye(values.shape[1])
    return np.linalg.solve(square, values.T @ (2.0 * labels - 1))


def _predictions(
    scores: np.ndarray, labels: np.ndarray, splits: list[tuple[np.ndarray, ...]]
) -> Predictions:
    fold = np.empty(len(labels), int)
    for number, (_, _, test) in enumerate(splits):
        fold[test] = number
    names = np.array([f"p{i}" for i in range(len(labels))], dtype=object)
    zeros = np.zeros(len(labels), int)
    classes = ("negative", "positive")
    return Predictions(classes, names, names, names, labels, fold, zeros, _two(scores))


def _two(logits: np.ndarray) -> np.ndarray:
    return np.stack([expit(-logits), expit(logits)], 1)


def _auroc(predictions: Predictions) -> float:
    return auroc(predictions.probabilities, predictions.target)
