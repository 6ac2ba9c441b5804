"""One MIL experiment: a config, its cross-validation, and the files it writes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import model_validator

from mshisto_ray import components
from mshisto_ray.config import option
from mshisto_ray.decision.config import DecisionConfig
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.target_split import GroupedSplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.experiment_result import measure, write_result
from mshisto_ray.mil.fit.config import NOISES, TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.trained import hardly_trained, trained_share, undecided_share
from mshisto_ray.mil.input.bags import Bags, read_bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.input.summary import summarise
from mshisto_ray.mil.model import COMBINATIONS, POOLINGS
from mshisto_ray.representation.preparation import by_content
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.cache import CacheConfig


class ExperimentRuntime(Runtime):
    """Node cache and MLflow runs of an experiment."""

    cache: CacheConfig = CacheConfig()


class ExperimentConfig(TrainConfig, InputConfig):
    """Bags, target, split, model and training: everything that decides a result."""

    target: TargetConfig = option(TargetConfig(), "what is predicted")
    split: GroupedSplitConfig = GroupedSplitConfig()
    decision: DecisionConfig = DecisionConfig()
    refit: bool = option(False, "train one more model on all bags, for new patients")
    runtime: ExperimentRuntime = ExperimentRuntime()

    @model_validator(mode="after")
    def _target_can_be_learned(self) -> ExperimentConfig:
        target = self.target.build()
        self.decision.check_target(target)
        name = self.pooling.name
        needs = components.declaration(POOLINGS, name, "NEEDS_CLASSES", False)
        if needs and not target.of_classes:
            closed = components.declarations(POOLINGS, "NEEDS_CLASSES")
            others = [n for n in components.available(POOLINGS) if n not in closed]
            raise ValueError(
                f"pooling: {name} gives probabilities of classes, so it cannot learn "
                f"target.kind={target.kind}; take {', '.join(others)}"
            )
        if self.draws == "balanced" and not target.of_classes:
            raise ValueError(
                f"draws: balanced is of classes, and target.kind={target.kind}: "
                "leave it out"
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
    bags = read_bags(
        config,
        config.target,
        config.split.column,
        config.runtime.cache,
        config.split.group,
    )
    splits = plan_splits(bags, config.split, config)
    if bags.kind.of_classes:
        config.decision.check_classes(bags.classes)
    given = any(len(split.validation) for split in splits)
    config.decision.check_validation(config.split.validation, given)
    return bags, splits


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
    # What is decided is fitted on the results of training, and changes none.
    paths |= {"views", "colour", "decision"}
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
    if settings["tiles_per_epoch"] is None:
        del settings["tiles_per_epoch"]
    if config.split.group is None:
        del settings["split"]["group"]
    if config.draws == "all":
        del settings["draws"]
    if not settings["mixup"]:
        del settings["mixup"]
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
    on_validated: Callable[[Predictions], None] = lambda validation: None,
    stages: Sequence[int] = (),
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
        on_validated: likewise.
        stages: likewise.

    Returns:
        The metrics.
    """
    started, cpu = time.perf_counter(), time.process_time()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    watched = on_fold, on_validated, stages
    result = cross_validate(bags, splits, config, device, config.refit, *watched)
    metrics = measure(result.test, result.validation)
    metrics["trained_share"] = trained_share(result.models, bags.kind)
    metrics["undecided_share"] = undecided_share(result.test)
    metrics["seconds"] = time.perf_counter() - started
    metrics["cpu_seconds"] = time.process_time() - cpu
    write_result(folder, result, bags, config, bags.about(config.split), metrics)
    return metrics


def warnings(config: ExperimentConfig, metrics: Mapping[str, float]) -> list[str]:
    """Lines for the user about fold models that have learned hardly anything.

    Results of versions that did not measure it have none.
    """
    shares = (metrics.get("trained_share", 1), metrics.get("undecided_share", 0))
    return hardly_trained(*shares, config.optimiser, config.target.build())
