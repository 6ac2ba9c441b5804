"""How decisions do on bags whose class is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mshisto_ray.decision.rules import DecisionRules
from mshisto_ray.learning.intervals import estimate, interval
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.bootstrap import (
    ClusterDraws,
    Interval,
    percentile_interval,
)
from mshisto_ray.statistics.calibration import Reliability, brier_score, reliability
from mshisto_ray.statistics.thresholds import net_benefit

# Treatment below 2 % or above 98 % of risk is no question; the odds there explode.
CURVE = np.linspace(0.02, 0.98, 97)


@dataclass(frozen=True)
class Examination:
    """Decisions on N bags whose class is known.

    ``raw``: the bags with the probabilities of the models; ``calibrated``: [N, C];
    ``decided``: class at the threshold, int [N]; ``sets``: bool [N, C], None: none.
    """

    raw: Predictions
    calibrated: np.ndarray
    decided: np.ndarray
    sets: np.ndarray | None

    def take(self, rows: np.ndarray) -> Examination:
        """Some of the bags, as those of a site, by a mask [N]."""
        sets = None if self.sets is None else self.sets[rows]
        return Examination(
            self.raw.take(rows), self.calibrated[rows], self.decided[rows], sets
        )

    @property
    def is_calibrated(self) -> bool:
        """Whether calibration has changed a probability."""
        return not np.array_equal(self.calibrated, self.raw.probabilities)

    def reliability(self, probabilities: np.ndarray) -> Reliability:
        """Of the second of two classes; of more, of the most probable one."""
        if probabilities.shape[1] == 2:
            return reliability(probabilities[:, 1], self.raw.target == 1)
        right = probabilities.argmax(1) == self.raw.target
        return reliability(probabilities.max(1), right)

    @cached_property
    def shares(self) -> dict[str, Interval]:
        """Shares of bags with 95 % intervals over patients.

        Of two classes ``sensitivity`` and ``specificity`` of the decisions, of more
        ``accuracy``; of sets ``covered``, those that hold the class, also by class,
        ``decided``, those of one class, and ``right``, of these those of the class.
        NaN where there is no such bag.
        """
        truth, hit = self.raw.target, self.decided == self.raw.target
        found = {}
        if len(self.raw.classes) == 2:
            found["sensitivity"] = self._share(hit, truth == 1)
            found["specificity"] = self._share(hit, truth == 0)
        else:
            found["accuracy"] = self._share(hit)
        if self.sets is None:
            return found
        holds = self.sets[np.arange(len(truth)), truth]
        single = self.sets.sum(1) == 1
        found["covered"] = self._share(holds)
        for code, name in enumerate(self.raw.classes):
            found[f"covered_{name}"] = self._share(holds, truth == code)
        found["decided"] = self._share(single)
        found["right"] = self._share(holds, single)
        return found

    @cached_property
    def errors(self) -> dict[str, Interval]:
        """``brier`` and ``ece``, of calibrated probabilities ``.._calibrated`` too.

        Brier with the percentiles of bootstrap replicates over patients; ECE, whose
        replicates are all larger than it, without.
        """
        given = {"": self.raw.probabilities}
        if self.is_calibrated:
            given["_calibrated"] = self.calibrated
        found = {}
        for suffix, probabilities in given.items():
            value = float(brier_score(probabilities, self.raw.target)[0])
            replicates = [
                brier_score(probabilities, self.raw.target, weights)
                for weights in self._draws.weights()
            ]
            drawn = np.concatenate([np.zeros(0), *replicates])
            found[f"brier{suffix}"] = percentile_interval(value, drawn)
        for suffix, probabilities in given.items():
            error = self.reliability(probabilities).error
            found[f"ece{suffix}"] = Interval(error, np.nan, np.nan)
        return found

    @property
    def observed(self) -> Interval:
        """Share of bags of the second class, with its 95 % interval."""
        return self._share(self.raw.target == 1)

    def benefit(self, probabilities: np.ndarray) -> np.ndarray:
        """Net benefit at ``CURVE`` with its 95 % interval, [3, M]; of two classes."""
        scores, truth = probabilities[:, 1], self.raw.target == 1
        value = net_benefit(scores, truth, CURVE)
        drawn = [net_benefit(scores, truth, CURVE, w) for w in self._draws.weights()]
        if not drawn:  # one patient
            return np.concatenate([value, value * np.nan, value * np.nan])
        ends = np.nanpercentile(np.concatenate(drawn), (2.5, 97.5), axis=0)
        return np.concatenate([value, ends])

    @property
    def treat_all(self) -> np.ndarray:
        """Net benefit of treating everybody, at ``CURVE``, [M]."""
        everybody = np.ones(len(self.raw))
        return net_benefit(everybody, self.raw.target == 1, CURVE)[0]

    @cached_property
    def _draws(self) -> ClusterDraws:
        return ClusterDraws(self.raw.patient_id.astype(str))

    def _share(self, hit: np.ndarray, where: np.ndarray | None = None) -> Interval:
        """Share of bags that are hit, as an accuracy, for its interval."""
        rows = np.ones(len(hit), bool) if where is None else where
        if not rows.any():
            return Interval(np.nan, np.nan, np.nan)
        called = np.eye(2)[hit[rows].astype(int)]
        own = replace(
            self.raw.take(rows),
            classes=("missed", "hit"),
            target=np.ones(int(rows.sum()), np.int64),
            probabilities=called,
        )
        return interval(estimate(own), "accuracy")


def examine(labelled: Predictions, rules: DecisionRules) -> Examination:
    """Decisions of frozen rules on bags that took no part in fitting them."""
    calibrated = rules.calibrated(labelled.probabilities)
    return examine_calibrated(labelled, calibrated, rules)


def examine_calibrated(
    labelled: Predictions, calibrated: np.ndarray, rules: DecisionRules
) -> Examination:
    """As ``examine``, of bags that were calibrated before: model by model, say."""
    sets = rules.sets(labelled.probabilities) if rules.sets else None
    return Examination(labelled, calibrated, rules.decide(calibrated), sets)


def examine_within_folds(
    test: Predictions, rules: Mapping[tuple[int, int], DecisionRules]
) -> Examination:
    """Decisions on out-of-fold bags, each by the rules of its fold model."""
    parts, places = [], []
    for (repeat, fold), own in rules.items():
        rows = np.flatnonzero((test.repeat == repeat) & (test.fold == fold))
        parts.append(examine(test.take(rows), own))
        places.append(rows)
    order = np.argsort(np.concatenate(places), kind="stable")
    sets = [part.sets for part in parts if part.sets is not None]
    return Examination(
        test,
        np.concatenate([part.calibrated for part in parts])[order],
        np.concatenate([part.decided for part in parts])[order],
        np.concatenate(sets)[order] if sets else None,
    )
