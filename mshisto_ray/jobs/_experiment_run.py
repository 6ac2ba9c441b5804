"""What MLflow keeps of one config: eight numbers, curves, plots and tables."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path

from mshisto_ray.learning.sweep.curves import read_mean_curve
from mshisto_ray.learning.sweep.experiment import Experiment
from mshisto_ray.learning.targets import Target
from mshisto_ray.reporting.prediction_plots import plot_predictions
from mshisto_ray.tracking import Child

INTERVALS = "intervals.csv"


def describe_result(
    folder: Path,
    metrics: Mapping[str, float],
    name: str,
    params: Mapping[str, str],
    scratch: Path,
    config: Experiment,
) -> Child:
    """A finished config as a run.

    Args:
        folder: of ``experiment.run``.
        metrics: of ``result_files.read_metrics``.
        name: of the run.
        params: of the run.
        scratch: folder for what is drawn, which is emptied first.
        config: of the result.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    _write_intervals(scratch / INTERVALS, metrics)
    plots = scratch / config.kind.picture
    plot_predictions(plots, config.read_test(folder), name)
    end = (folder / "metrics.json").stat().st_mtime
    return Child(
        name,
        params,
        (end - metrics.get("seconds", 0.0), end),
        main_metrics(metrics, config.kind),
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


def _write_intervals(path: Path, metrics: Mapping[str, float]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["metric", "value", "ci_low", "ci_high"])
        for key in metrics:
            name = key.removesuffix("_mean")
            if name != key:
                ends = [metrics[f"{name}_{e}"] for e in ("mean", "ci_low", "ci_high")]
                writer.writerow([name, *(f"{value:.4f}" for value in ends)])
