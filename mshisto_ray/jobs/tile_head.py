"""Heads on embeddings of tiles, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mshisto_ray.config import InputError, OutputPath, option
from mshisto_ray.decision.config import DecisionConfig, RulesConfig
from mshisto_ray.jobs._decisions import check_tile_decision, keep_decision
from mshisto_ray.jobs._left_out import write_left_out
from mshisto_ray.jobs._trained import train_on_fewer, write_summary
from mshisto_ray.learning.fold_means import fold_mean, pooling_notes
from mshisto_ray.learning.result_files import HEAD_FOLDER, VALIDATION
from mshisto_ray.learning.retraining.learning_curve import LearningCurveConfig
from mshisto_ray.learning.retraining.thinning import check_sizes
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.tile_metrics import METRICS
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.tile_classification.head.experiment import TileExperiment
from mshisto_ray.tile_classification.head.run import RESULT, read_metrics, recipe
from mshisto_ray.tile_classification.head.samples import TileSamples
from mshisto_ray.tracking import Course, Store, flatten

STAGE = "tile_head"


class TileHeadJobConfig(LearningCurveConfig, TileExperiment):
    """Cross-validate one tile head and keep it."""

    out: OutputPath = option(text="output directory")
    decision: RulesConfig = RulesConfig()

    @property
    def decides(self) -> DecisionConfig | None:
        """``decision``, of tiles; None where it is that of the largest probability."""
        decision = self.decision.for_tiles
        return None if decision.is_neutral else decision


def check(config: TileHeadJobConfig) -> None:
    """Check embeddings, classes, folds, decisions and that ``out`` can be used."""
    samples, splits = TileExperiment.check(config)
    _check(config, samples, splits)
    check_stage(config.out, STAGE, recipe(config, samples))


def _check(
    config: TileHeadJobConfig, samples: TileSamples, splits: Sequence[Split]
) -> None:
    sizes, seed = config.learning_curve, config.split.seed
    check_sizes(config.rows(samples), splits, seed, sizes)
    decision = config.decision.for_tiles
    check_tile_decision(decision, samples.classes, splits, config.split.validation)
    folder = config.out / RESULT
    is_older = bool(read_metrics(folder)) and not (folder / VALIDATION).is_file()
    if decision.is_fitted and is_older:
        raise InputError(
            f"decision: {folder} is of an earlier version, which kept no predictions "
            "of validation tiles to fit it on: give another out"
        )


def run(config: TileHeadJobConfig) -> None:
    """Cross-validate one tile head and keep it."""
    samples = config.load()
    splits = config.plan(samples)
    _check(config, samples, splits)
    for line in config.notes(samples):
        print(f"tile_head: {line}", flush=True)
    settings = recipe(config, samples)
    with open_stage(
        config.out, STAGE, settings, config.model_dump(mode="json")
    ) as manifest:
        store = config.runtime.open_store(config.out)
        write_left_out("tile_head", config.out, samples.failures)
        folder, started = config.out / RESULT, time.time()
        if read_metrics(folder):
            print(f"tile_head: {folder} is already done", flush=True)
        else:
            config.train(samples, folder, _say)
        metrics = read_metrics(folder) or {}
        train_on_fewer("tile_head", config, config, samples, splits, folder)
        if config.decides:
            head = folder / HEAD_FOLDER
            keep_decision(head, config.decides, config, folder, head)
        for name in METRICS:
            value, low, high = (
                metrics[f"test_{name}_{end}"] for end in ("mean", "ci_low", "ci_high")
            )
            inside = fold_mean(metrics, name)
            folds = "" if inside is None else f", mean over folds {inside:.3f}"
            ends = f"({low:.3f} to {high:.3f})"
            print(f"tile_head: test {name} {value:.3f} {ends}{folds}")
        for note in pooling_notes(metrics, config.kind.titles):
            print(f"tile_head: warning: {note}", flush=True)
        written = write_summary("tile_head", config, config, folder, config.decides)
        print(f"tile_head: head in {folder / HEAD_FOLDER}", flush=True)
        # Another decision or curve of the same head is another run.
        decision = config.decision.model_dump(mode="json") if config.decides else {}
        sizes = list(config.learning_curve)
        more = f" {sizes} {decision}" if sizes or decision else ""
        key = f"{config.out} {manifest.digest}{more}"
        if store.find_run("training_out", key) is None:
            _log(config, store, metrics, samples, key, (started, written))


def _say(done: int, total: int) -> None:
    print(f"tile_head: {done}/{total} models", flush=True)


def _log(
    config: TileHeadJobConfig,
    store: Store,
    metrics: dict[str, float],
    samples: TileSamples,
    key: str,
    made: tuple[float, Sequence[Path]],
) -> None:
    """``made``: when the job started, and files that it wrote beside the result."""
    params = flatten(config.model_dump(mode="json", exclude={"out", "runtime"}))
    shown = {
        name.removesuffix("_mean"): round(value, 4)
        for name, value in metrics.items()
        if name.endswith("_mean") and np.isfinite(value)
    }
    folder = config.out / RESULT
    own = [folder / name for name in ("metrics.json", "config.yaml", HEAD_FOLDER)]
    store.log_run(
        config.out.name, params, shown,
        {"training_out": key, "embeddings_digest": samples.digest},
        [*own, *made[1]],
        course=Course((made[0], time.time())),
    )  # fmt: skip
