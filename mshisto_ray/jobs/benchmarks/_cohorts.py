"""Simulated cohorts whose AUROC is known, and bootstrap replicates of many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mshisto_ray.statistics.bootstrap import draw_counts

_WITHIN = 0.5  # correlation of a patient's slides
_APART = 50.0  # of classes that no score confuses
_AT_ONCE = 200


@dataclass(frozen=True)
class Setting:
    """A kind of cohort.

    ``slides``: most slides of a patient, who have 1, 2, ... of them in turn;
    ``spread``: standard deviation of positive scores, that of negative ones is 1;
    ``agreement``: correlation of the scores of two models.
    """

    patients: int
    slides: int
    prevalence: float
    auroc: float
    spread: float = 1.0
    agreement: float = 0.5

    @property
    def positive(self) -> int:
        """Positive patients."""
        return max(2, round(self.patients * self.prevalence))

    @property
    def shift(self) -> float:
        """Mean of positive scores, that of negative ones is 0."""
        if self.auroc == 1:
            return _APART
        return float(norm.ppf(self.auroc)) * (1 + self.spread**2) ** 0.5

    @property
    def accuracy(self) -> float:
        """True accuracy where half the shift decides and both classes spread alike."""
        return float(norm.cdf(self.shift / 2))


@dataclass(frozen=True)
class Cohorts:
    """Cohorts with the same patients and other scores.

    ``patient``: index of each slide's patient, int [N], sorted, positive ones first;
    ``truth``: bool [N]; ``scores``: [models, N, S] of S cohorts.
    """

    patient: np.ndarray
    truth: np.ndarray
    scores: np.ndarray


def simulate(
    setting: Setting, cohorts: int, rng: np.random.Generator, shifts: tuple[float, ...]
) -> Cohorts:
    """Draw cohorts: normal scores, with a part that a patient's slides share.

    Args:
        setting: of patients.
        cohorts: S.
        rng: of all draws.
        shifts: mean of positive scores of each model.
    """
    sizes = 1 + np.arange(setting.patients) % setting.slides
    sizes = np.random.default_rng(0).permutation(sizes)
    patient = np.repeat(np.arange(setting.patients), sizes)
    truth = patient < setting.positive
    own, shared = (1 - _WITHIN) ** 0.5, _WITHIN**0.5

    def noise() -> np.ndarray:
        by_patient = rng.standard_normal((setting.patients, cohorts))[patient]
        return shared * by_patient + own * rng.standard_normal((len(patient), cohorts))

    common = noise() if len(shifts) > 1 else np.zeros(())
    share = setting.agreement if len(shifts) > 1 else 0.0
    scores = [share**0.5 * common + (1 - share) ** 0.5 * noise() for _ in shifts]
    up = truth[:, None]
    return Cohorts(
        patient,
        truth,
        np.stack(
            [
                np.where(up, setting.spread * s + shift, s)
                for s, shift in zip(scores, shifts, strict=True)
            ]
        ),
    )


def auroc_replicates(cohorts: Cohorts, model: int, replicates: int) -> np.ndarray:
    """AUROC of bootstrap replicates of patients, [S, R]; the same draws every time.

    Pairs of slides are counted once for each pair of patients, so that a replicate is
    a product of matrices. Replicates without a class are left out.
    """
    truth, patient = cohorts.truth, cohorts.patient
    num = int(patient[-1]) + 1
    starts = np.flatnonzero(np.diff(patient, prepend=-1))
    sizes, up = np.bincount(patient).astype(float), truth[starts]
    counts = draw_counts(num, replicates, np.random.default_rng(0)).astype(float)
    pairs = (counts @ (sizes * up)) * (counts @ (sizes * ~up))
    counts, pairs = counts[pairs > 0].astype(np.float32), pairs[pairs > 0]
    ups, downs = counts[:, up], counts[:, ~up]
    found = []
    for start in range(0, cohorts.scores.shape[2], _AT_ONCE):
        scores = cohorts.scores[model, :, start : start + _AT_ONCE].T
        won = scores[:, truth, None] > scores[:, None, ~truth]
        first = starts[up]
        won = np.add.reduceat(won, first, axis=1, dtype=np.float32)
        won = np.add.reduceat(won, starts[~up] - truth.sum(), axis=2)
        found.append(np.einsum("srn,rn->sr", ups @ won, downs) / pairs)
    return np.concatenate(found)
