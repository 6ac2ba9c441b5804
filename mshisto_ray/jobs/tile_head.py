"""A small head on embeddings of tiles, cross-validated in this process."""

from __future__ import annotations

import time

import numpy as np
import torch

from mshisto_ray.config import OutputPath, option
from mshisto_ray.learning.tile_metrics import METRICS
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.tile_classification.head.config import TileHeadConfig
from mshisto_ray.tile_classification.head.run import (
    RESULT,
    cross_validate,
    plan_folds,
    read_metrics,
    recipe,
    write_result,
)
from mshisto_ray.tile_classification.head.samples import TileSamples, read_samples
from mshisto_ray.tracking import Course, Store, flatten

STAGE = "tile_head"


class TileHeadJobConfig(TileHeadConfig):
    """Cross-validate one tile head and keep it."""

    out: OutputPath = option(text="output directory")


def check(config: TileHeadJobConfig) -> None:
    """Check embeddings, classes, folds and that ``out`` can be used."""
    cache = CacheConfig(dir=config.runtime.cache.dir, max_gib=0)
    runtime = config.runtime.model_copy(update={"cache": cache})
    samples = read_samples(config.model_copy(update={"runtime": runtime}))
    plan_folds(samples, config)
    check_stage(config.out, STAGE, recipe(config, samples))


def run(config: TileHeadJobConfig) -> None:
    """Cross-validate one tile head and keep it."""
    samples = read_samples(config)
    splits = plan_folds(samples, config)
    for line in [samples.summary(), *samples.notes]:
        print(f"tile_head: {line}", flush=True)
    settings = recipe(config, samples)
    with open_stage(
        config.out, STAGE, settings, config.model_dump(mode="json")
    ) as manifest:
        store = config.runtime.open_store(config.out)
        folder, started = config.out / RESULT, time.time()
        metrics = read_metrics(folder)
        if metrics:
            print(f"tile_head: {folder} is already done", flush=True)
        else:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            models, found = cross_validate(samples, splits, config, device, _say)
            metrics = write_result(folder, samples, splits, models, found, config)
        for name in METRICS:
            value, low, high = (
                metrics[f"test_{name}_{end}"] for end in ("mean", "ci_low", "ci_high")
            )
            print(f"tile_head: test {name} {value:.3f} ({low:.3f} to {high:.3f})")
        print(f"tile_head: head in {folder / 'head'}", flush=True)
        key = f"{config.out} {manifest.digest}"
        if store.find_run("training_out", key) is None:
            _log(config, store, metrics, samples, key, started)


def _say(done: int, total: int) -> None:
    print(f"tile_head: {done}/{total} models", flush=True)


def _log(
    config: TileHeadJobConfig,
    store: Store,
    metrics: dict[str, float],
    samples: TileSamples,
    key: str,
    started: float,
) -> None:
    params = flatten(config.model_dump(mode="json", exclude={"out", "runtime"}))
    shown = {
        name.removesuffix("_mean"): round(value, 4)
        for name, value in metrics.items()
        if name.endswith("_mean") and np.isfinite(value)
    }
    folder = config.out / RESULT
    store.log_run(
        config.out.name, params, shown,
        {"training_out": key, "embeddings_digest": samples.digest},
        [folder / "metrics.json", folder / "config.yaml", folder / "head"],
        course=Course((started, time.time())),
    )  # fmt: skip
