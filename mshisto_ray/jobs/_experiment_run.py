"""What MLflow keeps of one MIL config: eight numbers, curves, plots and tables."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from mshisto_ray.learning.targets import Target
from mshisto_ray.mil import experiment_result
from mshisto_ray.mil.curves import read_mean_curve
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.reporting.prediction_plots import plot_predictions
from mshisto_ray.tracking import Child, Input

INTERVALS = "intervals.csv"


def describe_result(
    folder: Path,
    metrics: Mapping[str, float],
    name: str,
    params: Mapping[str, str],
    scratch: Path,
    target: Target,
) -> Child:
    """A finished config as a run.

    Args:
        folder: of ``experiment.run``.
        metrics: of ``experiment_result.read_metrics``.
        name: of the run.
        params: of the run.
        scratch: folder for what is drawn, which is emptied first.
        target: what is predicted.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    _write_intervals(scratch / INTERVALS, metrics)
    plots = scratch / target.picture
    plot_predictions(plots, experiment_result.read_test(folder), name)
    end = (folder / "metrics.json").stat().st_mtime
    return Child(
        name,
        params,
        (end - metrics.get("seconds", 0.0), end),
        main_metrics(metrics, target),
        artifacts=(
            folder / "config.yaml",
            folder / "predictions.parquet",
            scratch / INTERVALS,
            plots,
        ),
        curve=read_mean_curve(folder),
    )


def main_metrics(metrics: Mapping[str, float], target: Target) -> dict[str, float]:
    """``val_auroc``, ``test_auroc``, ... and ``trained_share``: values, no bounds.

    Of classes; other targets have metrics of their own.

    Those that are not defined are left out; ``intervals.csv`` has all.
    """
    names = [f"val_{target.chooses}", *(f"test_{name}" for name in target.shown)]
    found = {name: metrics.get(f"{name}_mean", math.nan) for name in names}
    found["trained_share"] = metrics.get("trained_share", math.nan)
    return readable(found)


def readable(metrics: Mapping[str, float]) -> dict[str, float]:
    """Values of four digits, which MLflow's table shows whole; those that are defined.

    Files keep all digits.
    """
    return {name: round(v, 4) for name, v in metrics.items() if math.isfinite(v)}


def inputs(config: ExperimentConfig, bags: Bags) -> list[Input]:
    """The embeddings and the cohort of a config, or its bag table."""
    sizes = {"bags": len(bags), "instances": int(bags.sizes.sum())}
    labels = {"bags": len(bags), "patients": len(set(bags.patient_ids))}
    if config.bags:
        return [Input(config.bags.name, config.bags, bags.digest, sizes)]
    paths = dict.fromkeys(config.directories)
    found = [Input(path.name, path, bags.digest, sizes) for path in paths]
    assert config.cohort is not None
    return [*found, Input(config.cohort.name, config.cohort, bags.identity, labels)]


def _write_intervals(path: Path, metrics: Mapping[str, float]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["metric", "value", "ci_low", "ci_high"])
        for key in metrics:
            name = key.removesuffix("_mean")
            if name != key:
                ends = [metrics[f"{name}_{e}"] for e in ("mean", "ci_low", "ci_high")]
                writer.writerow([name, *(f"{value:.4f}" for value in ends)])
