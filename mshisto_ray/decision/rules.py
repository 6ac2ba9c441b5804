"""Fitted rules: from probabilities to calibrated ones, a class, a set of classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mshisto_ray.decision.config import HALF, DecisionConfig, ThresholdConfig
from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics import thresholds
from mshisto_ray.statistics.calibration import (
    Isotonic,
    Platt,
    Temperature,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from mshisto_ray.statistics.conformal import ConformalSets, fit_sets

_KINDS = {"temperature": Temperature, "platt": Platt, "isotonic": Isotonic}
_FITS: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


@dataclass(frozen=True)
class DecisionRules:
    """What is done with the probabilities [N, C] of bags.

    ``calibration``: None: they stay; ``threshold``: of the calibrated probability of
    the second of two classes, from which on a bag is called so, None: the most probable
    class is taken; ``sets``: of the probabilities as they are, so that their promise
    does not depend on the calibration; None: no sets.
    """

    calibration: Temperature | Platt | Isotonic | None = None
    threshold: float | None = None
    sets: ConformalSets | None = None

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities [N, C]."""
        return self.calibration(probabilities) if self.calibration else probabilities

    def decide(self, calibrated: np.ndarray) -> np.ndarray:
        """The class of each row of calibrated probabilities, int [N]."""
        if self.threshold is None:
            return decide(calibrated)
        return (calibrated[:, 1] >= self.threshold).astype(np.int64)

    @property
    def state(self) -> dict[str, Any]:
        """As JSON values; ``restore`` takes them."""
        calibration = None
        if self.calibration:
            kinds = {kind: name for name, kind in _KINDS.items()}
            values = asdict(self.calibration)
            calibration = {"name": kinds[type(self.calibration)]} | {
                k: v.tolist() if isinstance(v, np.ndarray) else v
                for k, v in values.items()
            }
        sets = None
        if self.sets:  # JSON has no infinity
            sets = [v if math.isfinite(v) else None for v in self.sets.least.tolist()]
        return {"calibration": calibration, "threshold": self.threshold, "sets": sets}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> DecisionRules:
        """The inverse of ``state``."""
        calibration, sets = None, None
        if state["calibration"]:
            values = dict(state["calibration"])
            kind = _KINDS[values.pop("name")]
            arrays = {
                k: np.array(v) if isinstance(v, list) else v for k, v in values.items()
            }
            calibration = kind(**arrays)
        if state["sets"]:
            least = [-math.inf if v is None else v for v in state["sets"]]
            sets = ConformalSets(np.array(least))
        return cls(calibration, state["threshold"], sets)


def fit_rules(validation: Predictions | None, config: DecisionConfig) -> DecisionRules:
    """Fit rules on bags whose patients did not train the models that predicted them.

    A threshold that needs both classes is 0.5 where one is absent.

    Args:
        validation: of classes; None where nothing has to be fitted.
        config: which rules.
    """
    if not config.is_fitted:
        neutral = config.threshold.is_neutral
        return DecisionRules(None, None if neutral else config.threshold.value)
    assert validation is not None
    given, truth = validation.probabilities, validation.target
    fit = _FITS.get(config.calibration)
    calibration = fit(given, truth) if fit else None
    calibrated = calibration(given) if calibration else given
    threshold = _threshold(calibrated, truth, config.threshold)
    sets = None
    if config.coverage is not None:
        patients = validation.patient_id.astype(str)
        missed = 1 - config.coverage
        sets = fit_sets(given, truth, patients, missed, config.by_class)
    return DecisionRules(calibration, threshold, sets)


def fit_within_folds(
    validation: Predictions | None, config: DecisionConfig, models: np.ndarray
) -> dict[tuple[int, int], DecisionRules]:
    """DecisionRules of each fold model, by its own validation patients.

    A fold's test patients are validation patients of other folds: rules of those would
    know them.

    Args:
        validation: of all folds.
        config: which rules.
        models: repeat and fold of each model, int [M, 2].
    """
    found = {}
    for repeat, fold in models.tolist():
        own = None
        if validation is not None:
            own = validation.take(
                (validation.repeat == repeat) & (validation.fold == fold)
            )
        found[repeat, fold] = fit_rules(own, config)
    return found


def _threshold(
    calibrated: np.ndarray, truth: np.ndarray, config: ThresholdConfig
) -> float | None:
    if config.policy == "fixed":
        return None if config.is_neutral else config.value
    positive = truth == 1
    if positive.all() or not positive.any():
        return HALF
    if config.policy == "youden":
        return thresholds.youden(calibrated[:, 1], positive)
    assert config.value is not None
    choose = {
        "sensitivity": thresholds.for_sensitivity,
        "specificity": thresholds.for_specificity,
    }[config.policy]
    return choose(calibrated[:, 1], positive, config.value)
