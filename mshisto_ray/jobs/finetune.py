"""Fine-tuning by several workers: ``tile_classification.finetune`` on Ray Train."""

from __future__ import annotations

from typing import Any

import torch

from mshisto_ray.distributed.training import (
    TrainingJobConfig,
    planned_workers,
    steps_done,
    train,
    with_workers,
)
from mshisto_ray.jobs import _training_output as output
from mshisto_ray.progress import say
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.tile_classification.finetune import NAME, STAGE, finetune_share
from mshisto_ray.tile_classification.finetune_config import (
    FinetuneConfig,
    FinetuneData,
    finetune_recipe,
    load_data,
    with_head,
)
from mshisto_ray.training.joint_batch import Share
from mshisto_ray.training.loop import ENCODER, Say
from mshisto_ray.training.reading import check_slides


class FinetuneJobConfig(FinetuneConfig, TrainingJobConfig):
    """Fine-tuning of an encoder on classes of tiles by one or several workers."""


def check(config: FinetuneJobConfig) -> None:
    """Check tiles, classes, the batch and that ``out`` can be used."""
    data = load_data(config)
    check_slides(data.tiles)
    output.check(config)
    check_stage(config.out, STAGE, _recipe(config, data))


def run(config: FinetuneJobConfig) -> None:
    """Fine-tune an encoder on the classes of a cohort's tiles."""
    data = load_data(config)
    for line in data.notes:
        say(f"{NAME}: {line}")
    recipe = _recipe(config, data)
    with open_stage(
        config.out, STAGE, recipe, config.model_dump(mode="json")
    ) as manifest:
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
