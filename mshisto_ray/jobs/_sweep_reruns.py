"""What a sweep trains after its choice: its learning curve, and permuted labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mshisto_ray.config import InputError
from mshisto_ray.jobs._sweep_config import AnySweepConfig
from mshisto_ray.learning.retraining.learning_curve import (
    CURVE,
    CURVE_PLOT,
    read_curve,
    write_curve,
    write_patients,
)
from mshisto_ray.learning.retraining.permuted import read_permuted
from mshisto_ray.learning.retraining.units import (
    curve_units,
    make_rerunner,
    permutation_units,
)
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.progress import say
from mshisto_ray.reporting.learning_curve import plot_curve
from mshisto_ray.reporting.page.ranking import SweepRanking, out_of_fold_metrics

_PRINT_EVERY_S = 5.0


def cost_of(config: AnySweepConfig, configs: int, models: int) -> str | None:
    """How many models are trained beside those of the configs; None: none are.

    Args:
        config: of the sweep.
        configs: that it has.
        models: of a config.
    """
    own = configs * models
    parts = {
        "refits": configs * config.refits,
        "learning curve": len(config.learning_curve) * models,
        "permutations": own * config.permutations,
    }
    wanted = [f"{num:,} of {name}" for name, num in parts.items() if num]
    if not wanted:
        return None
    total = sum(parts.values())
    return (
        f"beside {own:,} models of {configs} configs it trains {total:,} "
        f"({', '.join(wanted)}), in all {1 + total / own:.1f} times as many"
    )


def train_again(
    config: AnySweepConfig, found: SweepRanking, data: Any, splits: Sequence[Split]
) -> None:
    """Train what is missing of the learning curve and the permutations.

    Raises:
        InputError: a unit failed, for the reason of the first that did.
    """
    units = _missing(config, found)
    if config.learning_curve and found.chosen:
        folder = sweep_results.folder(config.out, found.chosen.digest)
        sizes, seed = config.learning_curve, config.split_config.seed
        write_patients(folder, config.rows(data), splits, seed, sizes)
    if not units:
        return
    # Ray takes seconds to import, which --check and a finished sweep save.
    from mshisto_ray.distributed.pipeline import stream
    from mshisto_ray.distributed.session import connect
    from mshisto_ray.distributed.workers import plan_actors

    points = {o.digest: o.point.config for o in found.ranked}
    texts = {digest: point.model_dump_json() for digest, point in points.items()}
    units = [{**unit, "config": texts[unit["digest"]]} for unit in units]
    with connect():
        plan = plan_actors(config.runtime, use_gpu=True)
        arguments = (config.point_class(), str(config.out), plan.threads)
        printed = time.monotonic()
        rows = stream(units, make_rerunner, arguments, plan)
        for done, row in enumerate(rows, start=1):
            if row["error"]:
                raise InputError(row["error"].strip())
            if done == len(units) or time.monotonic() - printed > _PRINT_EVERY_S:
                say(f"sweep: {done}/{len(units)} trained again")
                printed = time.monotonic()


def _missing(config: AnySweepConfig, found: SweepRanking) -> list[dict[str, Any]]:
    """Units of the curve, then those of each config, which share its data."""
    metric, units = config.chosen_by, []
    if found.chosen and config.learning_curve:
        units += curve_units(config.out, found.chosen.digest, config.learning_curve)
    if metric and config.permutations:
        for outcome in found.ranked:
            digest, num = outcome.digest, config.permutations
            units += permutation_units(config.out, digest, metric, num)
    return units


def with_reruns(config: AnySweepConfig, found: SweepRanking) -> SweepRanking:
    """The ranking with its learning curve and permuted choice, as far as trained."""
    chosen, metric = found.chosen, config.chosen_by
    if chosen is None or metric is None:
        return found
    digests = [outcome.digest for outcome in found.ranked]
    folders = {d: sweep_results.folder(config.out, d) for d in digests}
    given = config.learning_curve, metric, config
    curve = read_curve(folders[chosen.digest], *given)
    value = out_of_fold_metrics(chosen)[metric].value
    permuted = read_permuted(folders, value, metric, config.permutations, config)
    return replace(found, curve=curve, permuted=permuted)


def write_reruns(out: Path, found: SweepRanking) -> list[Path]:
    """Table and picture of the learning curve; returns what was written."""
    if found.curve is None:
        return []
    write_curve(out / CURVE, found.curve)
    plot_curve(out / CURVE_PLOT, found.curve)
    return [out / CURVE, out / CURVE_PLOT]


def rerun_metrics(found: SweepRanking) -> dict[str, float]:
    """Of the sweep's own run: p of the choice, what more patients would add."""
    metrics = {}
    if found.permuted:
        metrics["p_permuted"] = found.permuted.p
    if found.curve:
        metrics[f"gain_of_{found.curve.more}_patients"] = found.curve.gain.value
    return metrics
