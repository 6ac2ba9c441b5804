"""A trial of a sweep, apart from the driver: workers import no plots, no MLflow."""

from __future__ import annotations

import functools
import json
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.mil import experiment, sweep
from mshisto_ray.mil.bags import Bags, read_bags
from mshisto_ray.mil.cross_validation import plan_splits
from mshisto_ray.mil.experiment import ExperimentConfig

_EVERY_S = 2.0
# What decides the bags of a trial.
_SOURCE = {
    "embeddings", "cohort", "bags", "scale", "scales", "unit", "target", "split",
    "cache",
}  # fmt: skip


def train_point(
    config: dict[str, Any], work: Mapping[str, Any], out: Path, threads: int
) -> None:
    """Train one config; its folder is the result, a report says why there is none.

    Args:
        config: of the trial: ``digest`` of the config.
        work: configs by digest, as JSON values.
        out: directory of the sweep.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    digest = config["digest"]

    told = time.monotonic()

    def on_fold(done: int, total: int) -> None:
        nonlocal told
        # A report waits for the driver.
        if done == total or time.monotonic() - told > _EVERY_S:
            tune.report({"models": done, "error": None})
            told = time.monotonic()

    try:
        point = configs.validate(ExperimentConfig, work[digest])
        source = point.model_dump(mode="json", include=_SOURCE)
        bags = _read(json.dumps(source, sort_keys=True))
        splits = plan_splits(bags, point.split, point)
        experiment.run(point, bags, splits, sweep.folder(out, digest), on_fold)
    except InputError as error:
        tune.report({"models": 0, "error": str(error)})
    except Exception:
        tune.report({"models": 0, "error": traceback.format_exc()})


@functools.lru_cache(maxsize=2)
def _read(source: str) -> Bags:
    """Bags of an input; the trials of one process share them."""
    config = configs.validate(ExperimentConfig, json.loads(source))
    return read_bags(config, config.target, config.split.column, config.cache)
