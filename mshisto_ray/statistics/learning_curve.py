"""A metric against the number of training patients: would more of them help?"""

from __future__ import annotations

import numpy as np

from mshisto_ray.statistics.bootstrap import Interval, percentile_interval

_POWERS = np.linspace(0.1, 2.0, 191)


def power_law(sizes: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Fit a - b n^-c to each of R curves by least squares, and read it off, [M, R].

    Learning curves mostly are such power laws (Viering and Loog 2023, section 4). c is
    the best of a grid from .1 to 2; b is not below 0: a curve that falls is taken for
    flat, at its mean.

    Args:
        sizes: numbers of training patients, at least three different ones, [K].
        values: the metric at each, higher is better, [K, R].
        wanted: numbers of patients to predict for, [M].
    """
    best = np.full(values.shape[1], np.inf)
    predicted = np.empty((len(wanted), values.shape[1]))
    centred = values - values.mean(0)
    for power in _POWERS:
        x = sizes.astype(float) ** -power
        slope = np.minimum((x - x.mean()) @ centred / ((x - x.mean()) ** 2).sum(), 0.0)
        left = ((centred - (x - x.mean())[:, None] * slope) ** 2).sum(0)
        at = (wanted.astype(float) ** -power - x.mean())[:, None] * slope
        better = left < best - 1e-15
        best = np.where(better, left, best)
        predicted = np.where(better, at + values.mean(0), predicted)
    return predicted


def expected_gain(
    sizes: np.ndarray, values: np.ndarray, replicates: np.ndarray, more: int
) -> Interval:
    """What so many more patients would add to the largest size, with a 95 % interval.

    The interval covers what the curve varies by over the replicates, not that the true
    curve may be no power law; far beyond the largest size that is the greater risk.

    Args:
        sizes: numbers of training patients, [K].
        values: the metric at each, [K].
        replicates: the metric of bootstrap replicates of the patients, [K, R].
        more: patients to add.
    """
    wanted = np.array([sizes.max(), sizes.max() + more])

    def gain(curves: np.ndarray) -> np.ndarray:
        now, then = power_law(sizes, curves, wanted)
        return then - now

    return percentile_interval(float(gain(values[:, None])[0]), gain(replicates))
