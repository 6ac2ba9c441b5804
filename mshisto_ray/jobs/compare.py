"""Compare predictions that any software made, on the same patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from mshisto_ray.config import Config, InputError, InputPath, OutputPath, option
from mshisto_ray.learning.comparison import check_same_bags
from mshisto_ray.learning.given_predictions import read_models
from mshisto_ray.learning.metrics import METRICS
from mshisto_ray.learning.model_rows import ModelRows, PredictionColumns
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.ranking import (
    Ranking,
    check_same_patients,
    rank_classes,
    rank_risks,
)
from mshisto_ray.learning.risks import RiskEstimates, Risks, metric_names
from mshisto_ray.progress import say
from mshisto_ray.reporting.comparison_summary import (
    difference_table,
    metric_table,
    summary,
)
from mshisto_ray.reporting.model_plots import plot_kaplan_meier, plot_roc
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.file_names import file_name
from mshisto_ray.store.manifest import write_text

METRICS_FILE, DIFFERENCES = "metrics.csv", "differences.csv"
SUMMARY = "summary.md"
Time = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Given:
    """Models by group and name; one of both is empty."""

    risks: Mapping[str, Mapping[str, Risks]]
    classes: Mapping[str, Mapping[str, Predictions]]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


class CompareConfig(Config):
    """Models compared by predictions that lie in tables."""

    predictions: Annotated[tuple[InputPath, ...], BeforeValidator(_listed)] = option(
        text="tables of predictions (CSV or Parquet), one or a list", min_length=1
    )
    out: OutputPath = option(text="folder of summary.md, tables and plots")
    columns: PredictionColumns = PredictionColumns()
    models: dict[str, str] = option(
        {},
        "where a row holds several models: {name: column}, of risks, or of the "
        "probability of `positive`; empty: a row is of one model",
    )
    positive: str | None = option(
        None, "of two classes the one that the columns of `models` are of"
    )
    metric: str | None = option(
        None,
        "metric that ranks: of survival c (Harrell's), uno_c or auc_<horizon>, of "
        f"classes {', '.join(METRICS)}; null: c or auroc",
    )
    over: Literal["folds", "pooled"] = option(
        "folds", "of survival: rank by the mean over folds, or by all risks pooled"
    )
    reference: str | None = option(
        None, "model that the others are compared with; null: the best of each group"
    )
    horizons: tuple[Time, ...] = option(
        (), "times of the time-dependent AUROC", unit="as columns.time"
    )
    until: float | None = option(
        None, "of Uno's C: events before this time; null: all", "as columns.time", gt=0
    )
    runtime: Runtime = Runtime()

    @property
    def ranks_by(self) -> str:
        """The metric that ranks."""
        return self.metric or ("c" if self.columns.time else "auroc")


def check(config: CompareConfig) -> None:
    """Check the metric, and read the tables: columns, numbers, the same patients."""
    _read(config)


def run(config: CompareConfig) -> None:
    """Compare predictions that any software made, on the same patients."""
    given = _read(config)
    store = config.runtime.open_store(config.out)
    config.out.mkdir(parents=True, exist_ok=True)
    rankings, plots = [], []
    for ranking, plot in _compare(config, given):
        rankings.append(ranking)
        plots.append(plot)
        say(f"compare: {ranking.group}: {ranking.size}, {len(ranking.places)} models")
    text = summary(rankings, bool(config.columns.time))
    write_text(config.out / SUMMARY, text)
    write_text(config.out / METRICS_FILE, metric_table(rankings))
    write_text(config.out / DIFFERENCES, difference_table(rankings))
    say(f"\n{text}")
    files = [config.out / name for name in (SUMMARY, METRICS_FILE, DIFFERENCES)]
    metrics = _numbers(rankings)
    settings = config.model_dump(mode="json", exclude={"runtime"})
    store.log_run("compare", settings, metrics, artifacts=[*files, *plots])
    say(f"compare: {config.out / SUMMARY}")


def _read(config: CompareConfig) -> Given:
    """The models of each group, held against each other."""
    survival = config.columns.time is not None
    known = metric_names(config.horizons) if survival else METRICS
    if config.ranks_by not in known:
        raise InputError(f"metric: no {config.metric!r}; have {', '.join(known)}")
    groups = read_models(config.predictions, config.columns, config.models)
    for group, models in groups.items():
        if config.reference is not None and config.reference not in models:
            raise InputError(
                f"reference: no model {config.reference!r} in {group}; have "
                f"{', '.join(models)}"
            )
    if survival:
        risks = {g: {n: r.risks() for n, r in m.items()} for g, m in groups.items()}
        for group, found in risks.items():
            check_same_patients(group, found)
        return Given(risks, {})
    classes = {
        group: {name: _classes(config, rows) for name, rows in models.items()}
        for group, models in groups.items()
    }
    for found in classes.values():
        first, *others = found.values()
        for other in others:
            check_same_bags(other, first)
    return Given({}, classes)


def _classes(config: CompareConfig, rows: ModelRows) -> Predictions:
    return rows.of_positive(config.positive) if config.models else rows.probabilities()


def _compare(config: CompareConfig, given: Given) -> Iterator[tuple[Ranking, Path]]:
    """The ranking of each group, and its plot."""
    for group, risks in given.risks.items():
        ranking = _rank_risks(config, group, risks)
        plot = config.out / f"kaplan_meier_{file_name(group)}.png"
        plot_kaplan_meier(plot, group, risks, ranking)
        yield ranking, plot
    for group, classes in given.classes.items():
        ranking = _rank_classes(config, group, classes)
        plot = config.out / f"roc_{file_name(group)}.png"
        plot_roc(plot, group, classes, ranking)
        yield ranking, plot


def _rank_risks(
    config: CompareConfig, group: str, models: Mapping[str, Risks]
) -> Ranking:
    some = next(iter(models.values()))
    _, first = np.unique(some.patient, return_index=True)
    size = f"{len(first)} patients, {some.event[first].sum()} events"
    until = np.inf if config.until is None else config.until
    estimates = {n: RiskEstimates(r, config.horizons, until) for n, r in models.items()}
    over, reference = config.over, config.reference
    return rank_risks(group, estimates, size, config.ranks_by, over, reference)


def _rank_classes(
    config: CompareConfig, group: str, models: Mapping[str, Predictions]
) -> Ranking:
    some = next(iter(models.values()))
    once = some.target[some.repeat == some.repeat[0]]
    counts = np.bincount(once, minlength=len(some.classes))
    shown = ", ".join(f"{c!r} {n}" for c, n in zip(some.classes, counts, strict=True))
    size = f"{len(set(some.patient_id))} patients; {shown}"
    return rank_classes(group, models, size, config.ranks_by, config.reference)


def _numbers(rankings: list[Ranking]) -> dict[str, float]:
    """The ranking metric of each model, for MLflow."""
    return {
        f"{r.metric}/{file_name(r.group)}/{file_name(p.model)}": round(
            p.values[r.metric].value, 4
        )
        for r in rankings
        for p in r.places
    }
