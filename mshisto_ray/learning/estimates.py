"""Metrics of predictions, and how far they vary with the patients that were drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from mshisto_ray.learning.metrics import decide
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.statistics.bootstrap import REPLICATES, SEED, draw_counts
from mshisto_ray.statistics.delong import AurocParts, auroc_parts, join
from mshisto_ray.statistics.score_interval import (
    Theory,
    auroc_theory,
    effective_patients,
    share_theory,
)

_CHUNK_BYTES = 1 << 25


class Estimates:
    """Every metric of one model's predictions: value, variance, theory, replicates.

    The value: the metric of each repeat's predictions of all folds pooled, then the
    mean over repeats. The variance is that between samples of patients, who bring all
    their rows in every repeat; the trained models are held fixed. That of AUROC is
    DeLong's by patient, that of others from 1000 bootstrap replicates, the same every
    time: patients are drawn with replacement, as many as there are, and the value is
    computed anew. Variance and theory are those of classes.

    Attributes:
        kind: the target.
        names: of its metrics.
        num_patients: P.
    """

    def __init__(self, predictions: Predictions):
        self._all, self.kind = predictions, predictions.kind
        repeats = np.unique(predictions.repeat)
        self._kinds = [predictions.kind_of(int(repeat)) for repeat in repeats]
        self.names = self._kinds[0].metric_names(predictions.classes)
        names = predictions.patient_id.astype(str)
        patients, self._patient = np.unique(names, return_inverse=True)
        self.num_patients = len(patients)
        self._rows = [np.flatnonzero(predictions.repeat == r) for r in repeats]

    @cached_property
    def values(self) -> dict[str, float]:
        """Every metric; NaN where it is not defined."""
        found = self._mean_over_repeats([None] * len(self._rows))
        return {name: float(found[name][0]) for name in self.names}

    @cached_property
    def replicates(self) -> dict[str, np.ndarray]:
        """Every metric in each bootstrap replicate, [R].

        NaN where a replicate lacks a class that the metric needs.
        """
        generator = np.random.default_rng(SEED)
        widest = max(len(index) for index in self._rows)
        step = max(1, _CHUNK_BYTES // (8 * max(widest, self.num_patients)))
        parts = []
        for start in range(0, REPLICATES, step):
            size = min(step, REPLICATES - start)
            counts = draw_counts(self.num_patients, size, generator).astype(np.float64)
            weights = [counts[:, self._patient[index]] for index in self._rows]
            parts.append(self._mean_over_repeats(weights))
        return {n: np.concatenate([part[n] for part in parts]) for n in self.names}

    @cached_property
    def areas(self) -> AurocParts:
        """A column for each AUROC whose mean is the value: of repeats and classes."""
        columns = []
        for index in self._rows:
            targets = self._all.target[index]
            for code in self._classes:
                columns.append(
                    auroc_parts(
                        self._all.probabilities[index, code][:, None],
                        targets == code,
                        self._patient[index],
                        self.num_patients,
                    )
                )
        return join(columns)

    def theory(self, metric: str) -> Theory:
        """What the variance would be if rows of a patient were copies of each other."""
        if metric == "auroc":
            pairs = [self._effective(rows) for rows in (self._truth, self._others)]
            theory = auroc_theory(list(zip(*pairs, strict=True)))
        else:
            theory = share_theory(self._effective(self._shared_rows(metric)))
        # The value is a mean over repeats, of which one decides otherwise.
        return replace(theory, step=theory.step / len(self._rows))

    def variance(self, metric: str) -> tuple[float, float]:
        """Variance of a metric, and degrees of freedom of that estimate."""
        if metric == "auroc":
            weights = np.full((self.areas.auroc.size, 1), 1 / self.areas.auroc.size)
            variance, degrees = self.areas.variance(weights)
            return float(variance[0]), float(degrees[0])
        num = self.theory(metric).patients
        usable = self.replicates[metric][np.isfinite(self.replicates[metric])]
        if num <= 1 or len(usable) < 2:
            return np.nan, np.nan
        return float(usable.var(ddof=1)) * num / (num - 1), num - 1

    @property
    def _classes(self) -> list[int]:
        """The classes that metrics are of: the second of two; of more, every one."""
        num = len(self._all.classes)
        return [1] if num == 2 else list(range(num))

    def _shared_rows(self, metric: str) -> Callable[[np.ndarray, int], np.ndarray]:
        """Which rows a metric of a class is a share of; those of F1 may count twice."""

        def called(index: np.ndarray, code: int) -> np.ndarray:
            return decide(self._all.probabilities[index]) == code

        return {
            "accuracy": lambda index, code: np.ones(len(index)),
            "precision": called,
            "f1": lambda i, code: self._truth(i, code) + 1.0 * called(i, code),
        }.get(metric, self._truth)

    def _truth(self, index: np.ndarray, code: int) -> np.ndarray:
        return self._all.target[index] == code

    def _others(self, index: np.ndarray, code: int) -> np.ndarray:
        return self._all.target[index] != code

    def _effective(
        self, rows_of: Callable[[np.ndarray, int], np.ndarray]
    ) -> list[float]:
        """Effective patients of such rows of each class, mean over repeats."""
        return [
            float(np.mean([self._patients(i, rows_of(i, c)) for i in self._rows]))
            for c in self._classes
        ]

    def _patients(self, index: np.ndarray, rows: np.ndarray) -> float:
        return effective_patients(
            np.bincount(self._patient[index], rows, self.num_patients)
        )

    def _mean_over_repeats(
        self, weights: Sequence[np.ndarray | None]
    ) -> dict[str, np.ndarray]:
        found = [
            kind.measure(
                self._all.probabilities[index],
                self._all.target[index],
                self._all.fold[index],
                weight,
            )
            for kind, index, weight in zip(
                self._kinds, self._rows, weights, strict=True
            )
        ]
        return {name: np.mean([f[name] for f in found], axis=0) for name in self.names}
