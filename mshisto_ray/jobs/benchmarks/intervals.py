"""Coverage of 95 % intervals in simulated cohorts, by the way they are computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from mshisto_ray.jobs.benchmarks._benchmark import Benchmark, Measure
from mshisto_ray.jobs.benchmarks._cohorts import Setting, simulate
from mshisto_ray.jobs.benchmarks._interval_tables import Coverage, Found, render
from mshisto_ray.jobs.benchmarks._interval_ways import (
    Ends,
    accuracy_gap_ways,
    auroc_ways,
    difference_ways,
    metric_ways,
    true_metrics,
)
from mshisto_ray.store.manifest import write_text

TABLES = "intervals.md"
_PATIENTS, _SLIDES, _PREVALENCES = (20, 40, 100, 200), (1, 4), (0.1, 0.3, 0.5)
_AREAS = (0.5, 0.7, 0.9, 0.95, 0.99, 1.0)
_PAIRS = (
    (0.7, 0.7), (0.9, 0.9), (0.95, 0.95), (0.9, 0.8), (0.95, 0.92), (0.99, 0.9), (1, 1)
)  # fmt: skip
_AGREEMENTS = (0.5, 0.9, 0.98)
_UNEQUAL = 1.7
_LEAST, _FEW = 0.93, 6


def build(
    *,
    cohorts: Annotated[int, Field(ge=2)] = 500,
    whole: Annotated[int, Field(ge=2)] = 100,
    replicates: Annotated[int, Field(ge=10)] = 300,
    patients: tuple[Annotated[int, Field(ge=8)], ...] = _PATIENTS,
) -> Benchmark:
    """How often 95 % intervals hold the true value; tables in ``intervals.md``.

    Args:
        cohorts: of each setting, for AUROC and its differences.
        whole: of each setting, for the other metrics, with 1000 replicates each.
        replicates: of each bootstrap of AUROC.
        patients: numbers of patients of a cohort.
    """

    def measure(folder: Path) -> dict[str, Measure]:
        with threadpool_limits(1):
            found = _simulate(cohorts, whole, replicates, patients)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / TABLES, render(found, cohorts, whole))
        return _summary(found)

    return measure


def _simulate(
    cohorts: int, whole: int, replicates: int, patients: Sequence[int]
) -> Mapping[str, list[Coverage]]:
    """What was found for each kind of value, a ``Coverage`` per setting."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Coverage]] = {"auroc": [], "unequal": [], "difference": []}
    for setting in _settings(patients, _AREAS):
        equal, unequal = setting, replace(setting, spread=_UNEQUAL)
        for name, chosen in (("auroc", equal), ("unequal", unequal)):
            made = simulate(chosen, cohorts, rng, (chosen.shift,))
            ways = auroc_ways(made, replicates)
            found[name].append(Coverage(chosen, "auroc", _held(ways, chosen.auroc)))
    for setting in _settings(patients, [first for first, _ in _PAIRS[:1]]):
        for agreement, spread in product(_AGREEMENTS, (1.0, _UNEQUAL)):
            made = replace(setting, agreement=agreement, spread=spread)
            found["difference"] += _differences(made, cohorts, replicates, rng)
    found["accuracy"] = [
        coverage
        for setting in _settings(patients, [first for first, _ in _PAIRS[:1]])
        if setting.slides > 1
        for agreement in _AGREEMENTS
        for coverage in _accuracies(replace(setting, agreement=agreement), whole, rng)
    ]
    found["metrics"] = [
        coverage
        for setting in _settings(patients, (0.7, 0.9, 0.99))
        if setting.slides > 1
        for coverage in _metrics(setting, whole, rng)
    ]
    return found


def _settings(patients: Sequence[int], areas: Sequence[float]) -> list[Setting]:
    return [
        Setting(num, slides, prevalence, area)
        for num in patients
        for prevalence in _PREVALENCES
        for slides in _SLIDES
        for area in areas
    ]


def _differences(
    setting: Setting, cohorts: int, replicates: int, rng: np.random.Generator
) -> list[Coverage]:
    found = []
    for first, second in _PAIRS:
        one, two = (replace(setting, auroc=area) for area in (first, second))
        made = simulate(one, cohorts, rng, (one.shift, two.shift))
        held = _held(difference_ways(made, replicates), first - second)
        found.append(Coverage(one, f"{first:g} - {second:g}", held))
    return found


def _accuracies(setting: Setting, num: int, rng: np.random.Generator) -> list[Coverage]:
    """Coverage of differences of accuracy between models of two AUROCs."""
    found = []
    for first, second in _PAIRS:
        one, two = (replace(setting, auroc=area) for area in (first, second))
        made = simulate(one, num, rng, (one.shift, two.shift))
        true = one.accuracy - two.accuracy
        ways = accuracy_gap_ways(made, (one.shift / 2, two.shift / 2))
        found.append(Coverage(one, f"{first:g} - {second:g}", _held(ways, true)))
    return found


def _metrics(setting: Setting, num: int, rng: np.random.Generator) -> list[Coverage]:
    made = simulate(setting, num, rng, (setting.shift,))
    true = true_metrics(setting)
    ways = metric_ways(made, setting.shift / 2)
    return [Coverage(setting, name, _held(ways[name], true[name])) for name in ways]


def _held(ways: Mapping[str, Ends], true: float) -> dict[str, Found]:
    """What intervals hold and leave out, by way."""
    close = 1e-9
    return {
        name: Found(
            float(np.mean((low <= true + close) & (high >= true - close))),
            float(np.mean(high - low)),
            float(np.mean((low > 0) | (high < 0))),
        )
        for name, (low, high) in ways.items()
    }


def _summary(found: Mapping[str, list[Coverage]]) -> dict[str, Measure]:
    """Coverage by way: mean and least, where a class has at least six patients."""
    measures = {}
    for kind, all_settings in found.items():
        chosen = [c for c in all_settings if c.setting.positive >= _FEW]
        chosen = [c for c in chosen if c.setting.auroc < 1] or all_settings
        for way in chosen[0].held:
            held = [c.held[way].coverage for c in chosen]
            usual = [c.held["percentile bootstrap"].coverage for c in chosen]
            name = f"intervals.{kind}.{way.replace(' ', '_').replace(',', '')}"
            is_ours = way == "score"
            measures[f"{name}.mean"] = Measure(
                float(np.mean(held)), "share", float(np.mean(usual)),
                _LEAST if is_ours else None,
            )  # fmt: skip
            measures[f"{name}.least"] = Measure(min(held), "share", min(usual))
    return measures
