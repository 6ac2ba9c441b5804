"""Simulations of what sets, the drift test and intervals of C promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from mshisto_ray.statistics.bootstrap import draw_counts, percentile_interval
from mshisto_ray.statistics.conformal import fit_sets, report_sets
from mshisto_ray.statistics.drift import DriftTest
from mshisto_ray.statistics.survival.concordance import harrell

_CLASSES, _NEW, _WITHIN = 3, 200, 0.5
_DIM, _LARGE = 30, 6000


@dataclass(frozen=True)
class Row:
    """A setting, as cells of a table, and what was found, by column."""

    setting: tuple[str, ...]
    found: Mapping[str, float]


def conformal_rows(cohorts: int, missed: float) -> list[Row]:
    """Coverage of sets for new patients, a row of each, by setting."""
    rows = []
    for patients in (20, 40, 100, 200):
        for slides in (1, 4):
            for by_class in (False, True):
                reports = [
                    _cover(seed, patients, slides, missed, by_class)
                    for seed in range(cohorts)
                ]
                covered, rarest, decided, size = np.nanmean(reports, axis=0)
                found = {
                    "covered": covered, "covered, rarest class": rarest,
                    "decided": decided, "mean size": size,
                }  # fmt: skip
                setting = (f"{patients}", f"{slides}", "yes" if by_class else "no")
                rows.append(Row(setting, found))
    return rows


def _cover(
    seed: int, patients: int, slides: int, missed: float, by_class: bool
) -> tuple[float, ...]:
    rng = np.random.default_rng(seed)
    given, target, patient = _draw(rng, patients, slides)
    sets = fit_sets(given, target, patient, missed, by_class)
    given, target, patient = _draw(rng, _NEW, slides)
    first = np.diff(patient, prepend=-1) > 0  # patients are the units
    found, target = sets(given[first]), target[first]
    rare = report_sets(found[target == 0], target[target == 0])
    report = report_sets(found, target)
    return report.covered, rare.covered, report.decided, report.size


def _draw(
    rng: np.random.Generator, patients: int, slides: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes, the first of a tenth of the patients and harder to see."""
    target = rng.choice(_CLASSES, patients, p=[0.1, 0.45, 0.45])
    patient = np.repeat(np.arange(patients), 1 + np.arange(patients) % slides)
    seen = np.where(target == 0, 1.0, 2.0)[:, None] * np.eye(_CLASSES)[target]
    shared = seen + _WITHIN**0.5 * rng.normal(size=(patients, _CLASSES))
    own = (1 - _WITHIN) ** 0.5 * rng.normal(size=(len(patient), _CLASSES))
    return softmax(shared[patient] + own, axis=1), target[patient], patient


def drift_rows(cohorts: int) -> list[Row]:
    """Alarms of the drift test at .05, without a shift and with one."""
    rows = []
    for patients in (20, 40, 100, 300):
        for shift in (0.0, 1.0):
            single, whole = [], []
            for seed in range(cohorts):
                rng = np.random.default_rng(seed)
                mixing = rng.normal(size=(_DIM, _DIM)) / _DIM**0.5
                test = DriftTest(rng.standard_t(5, (patients, _DIM)) @ mixing)
                new = (rng.standard_t(5, (30, _DIM)) + shift) @ mixing
                single.append(float((test.p_values(new) < 0.05).mean()))
                whole.append(test.cohort_p(new) < 0.05)
            found = {
                "patients flagged": float(np.mean(single)),
                "cohorts of 30 flagged": float(np.mean(whole)),
            }
            rows.append(Row((f"{patients}", f"{shift:g}"), found))
    return rows


def concordance_rows(cohorts: int, replicates: int) -> list[Row]:
    """Coverage of percentile intervals of Harrell's C."""
    rows = []
    for skill in (0.0, 0.7, 2.0):
        large = _survival(np.random.default_rng(1), _LARGE, skill)
        true = float(harrell(*large)[0])
        for patients in (50, 100, 200):
            held, width, events = [], [], []
            for seed in range(cohorts):
                rng = np.random.default_rng([seed, patients])
                data = _survival(rng, patients, skill)
                counts = draw_counts(patients, replicates, rng).astype(float)
                value = float(harrell(*data)[0])
                ends = percentile_interval(value, harrell(*data, counts))
                held.append(ends.low <= true <= ends.high)
                width.append(ends.high - ends.low)
                events.append(data[1].sum())
            found = {
                "events": float(np.mean(events)), "held": float(np.mean(held)),
                "mean width": float(np.mean(width)),
            }  # fmt: skip
            rows.append(Row((f"{true:.3f}", f"{patients}"), found))
    return rows


def _survival(
    rng: np.random.Generator, num: int, skill: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    risk = rng.normal(size=num)
    dies = rng.exponential(np.exp(-skill * risk))
    leaves = rng.exponential(0.7, num)
    return np.minimum(dies, leaves), dies <= leaves, risk
