"""Fine-tuning by several workers: ``tile_classification.finetune`` on Ray Train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mshisto_ray.distributed.training import (
    TrainingJobConfig,
    planned_workers,
    steps_done,
    train,
    with_workers,
)
from mshisto_ray.encoders import checkpoint
from mshisto_ray.jobs import _training_output as output
from mshisto_ray.learning.fold_means import fold_mean, pooling_notes
from mshisto_ray.learning.tile_metrics import METRICS
from mshisto_ray.progress import say
from mshisto_ray.store.manifest import check_stage, open_stage, recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.finetune import NAME, STAGE, finetune_share
from mshisto_ray.tile_classification.finetune_config import (
    FinetuneConfig,
    FinetuneData,
    chosen_folds,
    finetune_recipe,
    fold_data,
    load_data,
    recorded,
    with_head,
)
from mshisto_ray.tile_classification.head.classes import TileClasses
from mshisto_ray.tile_classification.head.run import RESULT
from mshisto_ray.tile_classification.head_fold import (
    HeadFold,
    predict_fold,
    write_folds,
)
from mshisto_ray.training.joint_batch import Share
from mshisto_ray.training.loop import ENCODER, Say
from mshisto_ray.training.reading import check_slides

FOLDS_STAGE = "finetuning_folds"


class FinetuneJobConfig(FinetuneConfig, TrainingJobConfig):
    """Fine-tuning of an encoder on classes of tiles by one or several workers."""


def check(config: FinetuneJobConfig) -> None:
    """Check tiles, classes, folds, the batch and that ``out`` can be used."""
    output.check(config)
    tiles = TileDirectory(config.tiles)
    check_slides(tiles)
    if config.against.head is None:
        data = load_data(config)
        check_stage(config.out, STAGE, _recipe(config, data))
        return
    folds = chosen_folds(config, tiles)
    for fold in folds:
        own = _of_fold(config, fold)
        check_stage(own.out, STAGE, _recipe(own, fold_data(own, tiles, fold)))
    check_stage(config.out, FOLDS_STAGE, _folds_recipe(config, folds))


def run(config: FinetuneJobConfig) -> None:
    """Fine-tune an encoder on the classes of a cohort's tiles."""
    if config.against.head is None:
        _train(config, load_data(config))
        return
    tiles = TileDirectory(config.tiles)
    folds = chosen_folds(config, tiles)
    recipe = _folds_recipe(config, folds)
    with open_stage(config.out, FOLDS_STAGE, recipe, config.model_dump(mode="json")):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        found = []
        for fold in folds:
            own = _of_fold(config, fold)
            _train(own, fold_data(own, tiles, fold))
            path = str(own.out / ENCODER)
            encoder = checkpoint.build(
                device, "float32", path=path, output="projection"
            )
            found.append(predict_fold(fold, tiles, encoder, config.runtime.readers))
        metrics = write_folds(config.out / RESULT, folds, found)
        for name in METRICS:
            value, low, high = (
                metrics[f"test_{name}_{end}"] for end in ("mean", "ci_low", "ci_high")
            )
            inside = fold_mean(metrics, name)
            folds = "" if inside is None else f", mean over folds {inside:.3f}"
            say(f"{NAME}: test {name} {value:.3f} ({low:.3f} to {high:.3f}){folds}")
        for line in pooling_notes(metrics, TileClasses.titles):
            say(f"{NAME}: warning: {line}")
        say(f"{NAME}: {config.out / RESULT}")


def _of_fold(config: FinetuneJobConfig, fold: HeadFold) -> FinetuneJobConfig:
    """The config of one fold's network, in a folder of its own."""
    repeat, number = fold.split.repeat, fold.split.fold
    only = config.against.model_copy(update={"repeat": repeat, "fold": number})
    out = config.out / f"fold-{repeat}-{number}"
    # The store of the whole job, not one beside the fold's folder.
    uri = config.runtime.store_uri(config.out)
    mlflow = config.runtime.mlflow.model_copy(update={"uri": uri})
    runtime = config.runtime.model_copy(update={"mlflow": mlflow})
    return config.model_copy(update={"against": only, "out": out, "runtime": runtime})


def _folds_recipe(
    config: FinetuneJobConfig, folds: Sequence[HeadFold]
) -> dict[str, Any]:
    digests = {}
    for fold in folds:
        own = _of_fold(config, fold)
        data = fold_data(own, TileDirectory(config.tiles), fold)
        digests[own.out.name] = recipe_digest(finetune_recipe(own, data))
    return digests


def _train(config: FinetuneJobConfig, data: FinetuneData) -> None:
    for line in data.notes:
        say(f"{NAME}: {line}")
    recipe = _recipe(config, data)
    with open_stage(config.out, STAGE, recipe, recorded(config, data)) as manifest:
        if steps_done(config.out) < config.steps:
            with planned_workers(config, config.model.norm) as plan:
                _say_counts(data)
                train(NAME, config, plan, _work)
        output.finish(NAME, config, data.tiles, manifest)
    say(f"{NAME}: encoder in {config.out / ENCODER}")


def _work(
    config: FinetuneJobConfig, note: Say, share: Share, device: torch.device
) -> None:
    finetune_share(config, load_data(config), note, share, device)


def _recipe(config: FinetuneJobConfig, data: FinetuneData) -> dict[str, Any]:
    Share(0, config.workers).part(config.batch_size, 1)
    model = with_head(config, data.whole.classes)
    recipe = finetune_recipe(config, data)
    return with_workers(config, model, data.tiles, STAGE, recipe)


def _say_counts(data: FinetuneData) -> None:
    """Print the tiles and patients of each class, trained on and held out."""
    for part, what in ((data.train, "trained on"), (data.held_out, "held out")):
        tiles = [int((part.code == code).sum()) for code in range(len(part.classes))]
        counts = zip(part.classes, tiles, part.patients(), strict=True)
        shown = "; ".join(f"{name}: {n:,} tiles of {p}" for name, n, p in counts)
        say(f"{NAME}: {what}, with patients: {shown}")
