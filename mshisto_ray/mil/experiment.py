"""One MIL experiment: a config, its cross-validation, and the files it writes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from pydantic import model_validator

from mshisto_ray import components
from mshisto_ray.config import option, to_yaml
from mshisto_ray.learning.intervals import CURRENT, intervals
from mshisto_ray.learning.predictions import (
    Predictions,
    read_predictions,
    write_predictions,
)
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.fit.config import NOISES, TrainConfig
from mshisto_ray.mil.fit.cross_validation import (
    CrossValidation,
    cross_validate,
    plan_splits,
)
from mshisto_ray.mil.fit.trained import hardly_trained, trained_share, undecided_share
from mshisto_ray.mil.head import save_head
from mshisto_ray.mil.input.bags import Bags, read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.input.summary import summarise
from mshisto_ray.mil.model import COMBINATIONS, POOLINGS
from mshisto_ray.representation.preparation import by_content
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.temporary import temporary_beside

_METRICS = "metrics.json"
PREDICTIONS, _VALIDATION = "predictions.parquet", "validation.parquet"
_INTERVALS = "intervals"  # key of _METRICS: how the bounds in it were made
HEAD_FOLDER = "head"


class ExperimentRuntime(Runtime):
    """Node cache and MLflow runs of an experiment."""

    cache: CacheConfig = CacheConfig()


class ExperimentConfig(TrainConfig, InputConfig):
    """Bags, target, split, model and training: everything that decides a result."""

    target: TargetConfig = option(TargetConfig(), "what is predicted")
    split: SplitConfig = SplitConfig()
    refit: bool = option(False, "train one more model on all bags, for new patients")
    runtime: ExperimentRuntime = ExperimentRuntime()

    @model_validator(mode="after")
    def _target_can_be_learned(self) -> ExperimentConfig:
        target = self.target.build()
        name = self.pooling.name
        needs = components.declaration(POOLINGS, name, "NEEDS_CLASSES", False)
        if needs and not target.of_classes:
            closed = components.declarations(POOLINGS, "NEEDS_CLASSES")
            others = [n for n in components.available(POOLINGS) if n not in closed]
            raise ValueError(
                f"pooling: {name} gives probabilities of classes, so it cannot learn "
                f"target.kind={target.kind}; take {', '.join(others)}"
            )
        stopping = self.early_stopping
        if stopping and stopping.metric not in ("loss", target.chooses):
            raise ValueError(
                f"early_stopping.metric: target.kind={target.kind} has loss and "
                f"{target.chooses}, got {stopping.metric!r}"
            )
        return self

    @model_validator(mode="after")
    def _scales_are_combined(self) -> ExperimentConfig:
        takes_one = components.declaration(
            COMBINATIONS, self.combine.name, "ONE_SCALE", False
        )
        if takes_one != (self.scales is None):
            one = components.declarations(COMBINATIONS, "ONE_SCALE")
            others = [n for n in components.available(COMBINATIONS) if n not in one]
            raise ValueError(
                f"combine: {' and '.join(one)} takes one scale (scale); "
                f"{' and '.join(others)} take several (scales, as [2.0, 1.0]); got "
                f"combine={self.combine.name}, scales={self.scales}"
            )
        return self


def load(config: ExperimentConfig) -> tuple[Bags, list[Split]]:
    """Read the bags of a config and plan its splits.

    Raises:
        InputError: input, target or split cannot be used.
    """
    bags = read_bags(config, config.target, config.split.column, config.runtime.cache)
    return bags, plan_splits(bags, config.split, config)


def notes(config: ExperimentConfig, bags: Bags) -> list[str]:
    """Lines for the user: what is trained on, what is left out, what does not suit."""
    describe = components.declaration(POOLINGS, config.pooling.name, "notes", None)
    line = summarise(bags, config.split)
    return [line, *bags.notes, *(describe(bags.sizes) if describe else [])]


def check(config: ExperimentConfig) -> tuple[Bags, list[Split]]:
    """As ``load``, but without filling the node cache: for a check before work."""
    unfilled = CacheConfig(dir=config.runtime.cache.dir, max_gib=0)
    runtime = config.runtime.model_copy(update={"cache": unfilled})
    return load(config.model_copy(update={"runtime": runtime}))


def recipe(config: ExperimentConfig, bags: Bags) -> dict[str, Any]:
    """The settings and data digests that decide the result; no paths."""
    names = set(ExperimentConfig.model_fields)
    paths = {"embeddings", "cohort", "columns", "bags", "runtime", "scale", "scales"}
    paths |= {"views"}
    settings = config.model_dump(mode="json", include=names - paths)
    # Results keep the digests they had before a key came or went, where they are the
    # same: no optimiser had a schedule, and early stopping kept
    # epochs before the training loss had fallen.
    settings["target"] = bags.kind.settings
    optimiser = settings["optimiser"]
    if optimiser["schedule"] == "constant" and not optimiser["warmup_steps"]:
        del optimiser["schedule"], optimiser["warmup_steps"]
    if config.early_stopping:
        settings["early_stopping"] |= {"trained": bags.kind.learned}
    if settings["reduction"]["name"] == "none":
        del settings["reduction"]
    settings["noise"] = by_content(NOISES, config.noise)
    scale = bags.scales or bags.scale
    return settings | {"scale": scale, "data": bags.identity}


def digest(config: ExperimentConfig, bags: Bags) -> str:
    """Digest of the recipe: experiments with the same one have the same result."""
    text = json.dumps(recipe(config, bags), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def run(
    config: ExperimentConfig,
    bags: Bags,
    splits: Sequence[Split],
    folder: Path,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Cross-validate a config and write ``folder``, whole or not at all.

    ``config.yaml``, ``metrics.json`` (see ``measure``), ``predictions.parquet`` (out
    of fold), ``validation.parquet``, ``history.json`` (training curves), ``head/``.

    Args:
        config: the experiment.
        bags: of ``load``.
        splits: of ``load``.
        folder: output folder; one that another process wrote meanwhile is kept.
        on_fold: see ``cross_validate``.

    Returns:
        The metrics.
    """
    started, cpu = time.perf_counter(), time.process_time()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = cross_validate(bags, splits, config, device, config.refit, on_fold)
    metrics = measure(result.test, result.validation)
    metrics["trained_share"] = trained_share(result.models, bags.kind)
    metrics["undecided_share"] = undecided_share(result.test)
    metrics["seconds"] = time.perf_counter() - started
    metrics["cpu_seconds"] = time.process_time() - cpu
    temporary = temporary_beside(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    about = bags.about(config.split)
    save_head(temporary / HEAD_FOLDER, result, bags, config, about)
    write_predictions(temporary / PREDICTIONS, result.test)
    if result.validation:
        write_predictions(temporary / _VALIDATION, result.validation)
    (temporary / "history.json").write_text(json.dumps(_curves(result)))
    (temporary / "config.yaml").write_text(to_yaml(config))
    # JSON has no NaN; a metric that is not defined is null.
    known = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
    content = {**known, _INTERVALS: bags.kind.interval_name}
    (temporary / _METRICS).write_text(json.dumps(content, indent=2) + "\n")
    try:
        os.rename(temporary, folder)
    except OSError:  # not empty: another run of this config has finished it
        if not (folder / _METRICS).is_file():
            raise
        shutil.rmtree(temporary)
    return metrics


def _curves(result: CrossValidation) -> list[dict[str, Any]]:
    return [
        {
            "repeat": split.repeat,
            "fold": split.fold,
            "epochs": model.epochs,
            "chance_loss": model.chance,
            "history": model.history,
        }
        for split, model in zip(result.splits, result.models, strict=True)
    ]


def warnings(config: ExperimentConfig, metrics: Mapping[str, float]) -> list[str]:
    """Lines for the user about fold models that have learned hardly anything.

    Results of versions that did not measure it have none.
    """
    shares = (metrics.get("trained_share", 1), metrics.get("undecided_share", 0))
    return hardly_trained(*shares, config.optimiser, config.target.build())


def measure(test: Predictions, validation: Predictions | None) -> dict[str, float]:
    """``test_<metric>_mean``, ``_ci_low``, ``_ci_high``, and ``val_...`` likewise.

    See ``learning.intervals.intervals`` for what is computed. ``test``: out-of-fold
    predictions of all bags; ``val``: those of the bags set aside within training
    folds, which is what configs are chosen by. A value that is not defined is NaN.
    """
    found: dict[str, float] = {}
    for prefix, predictions in (("val", validation), ("test", test)):
        if predictions is None:
            continue
        for name, interval in intervals(predictions).items():
            found[f"{prefix}_{name}_mean"] = interval.value
            found[f"{prefix}_{name}_ci_low"] = interval.low
            found[f"{prefix}_{name}_ci_high"] = interval.high
    return found


def read_metrics(folder: Path) -> dict[str, float] | None:
    """The metrics that ``run`` wrote, or None if it has not finished.

    Bounds that an earlier version made in another way are made anew from the
    predictions, so that those of a sweep can be compared.
    """
    file = folder / _METRICS
    if not file.is_file():
        return None
    found = json.loads(file.read_text())
    made_by = found.pop(_INTERVALS, None)
    metrics = {k: math.nan if v is None else v for k, v in found.items()}
    if made_by in CURRENT:
        return metrics
    validation = folder / _VALIDATION
    return metrics | measure(
        read_test(folder),
        read_predictions(validation) if validation.is_file() else None,
    )


def read_test(folder: Path) -> Predictions:
    """The out-of-fold predictions that ``run`` wrote."""
    return read_predictions(folder / PREDICTIONS)


def read_validation(folder: Path) -> Predictions | None:
    """The predictions of the bags set aside in training; None where none were."""
    file = folder / _VALIDATION
    return read_predictions(file) if file.is_file() else None


def write_folds(path: Path, bags: Bags, splits: Sequence[Split]) -> None:
    """Write ``bag, patient_id, repeat, fold, part``: a row per bag of every split."""
    rows = [
        {
            "bag": bags.names[index],
            "patient_id": bags.patient_ids[index],
            "repeat": split.repeat,
            "fold": split.fold,
            "part": part,
        }
        for split in splits
        for part in ("train", "validation", "test")
        for index in getattr(split, part)
    ]
    write_shard(path, [pa.Table.from_pylist(rows)])
