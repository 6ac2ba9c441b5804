"""Contrastive pretraining by several workers: ``contrastive.pretrain`` on Ray Train."""

from __future__ import annotations

from typing import Any

import torch

from mshisto_ray.config import InputError
from mshisto_ray.contrastive.config import (
    PretrainConfig,
    describe,
    load_index,
    pretrain_recipe,
    recorded,
)
from mshisto_ray.contrastive.pretrain import NAME, STAGE, pretrain_share
from mshisto_ray.contrastive.samples import sample_pairs
from mshisto_ray.distributed.training import (
    TrainingJobConfig,
    planned_workers,
    steps_done,
    train,
    with_workers,
)
from mshisto_ray.jobs import _training_output as output
from mshisto_ray.progress import say
from mshisto_ray.reporting.pair_sheet import SHOWN, draw_pair_sheet
from mshisto_ray.store.manifest import check_stage, open_stage
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.joint_batch import Share
from mshisto_ray.training.loop import ENCODER, Say
from mshisto_ray.training.reading import check_slides
from mshisto_ray.training.tile_index import TileIndex

_PAIRS = "pairs.png"


class PretrainJobConfig(PretrainConfig, TrainingJobConfig):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Contrastive pretraining of an encoder by one or several workers."""


def check(config: PretrainJobConfig) -> None:
    """Check tiles, labels, pairs, the batch and that ``out`` can be used."""
    tiles, index = load_index(config)
    check_slides(tiles)
    output.check(config)
    check_stage(config.out, STAGE, _recipe(config, tiles, index))


def run(config: PretrainJobConfig) -> None:
    """Pretrain an encoder on the tiles of a cohort."""
    tiles, index = load_index(config)
    for line in describe(config, index):
        say(f"{NAME}: {line}")
    recipe = _recipe(config, tiles, index)
    with open_stage(config.out, STAGE, recipe, recorded(config, tiles)) as manifest:
        if steps_done(config.out) < config.steps:
            with planned_workers(config, config.model.norm) as plan:
                _draw_pairs(config, tiles, index)
                train(NAME, config, plan, _work)
        output.finish(NAME, config, tiles, manifest, [_PAIRS])
    say(f"{NAME}: encoder in {config.out / ENCODER}")


def _work(
    config: PretrainJobConfig, note: Say, share: Share, device: torch.device
) -> None:
    pretrain_share(config, *load_index(config), note, share, device)


def _recipe(
    config: PretrainJobConfig, tiles: TileDirectory, index: TileIndex
) -> dict[str, Any]:
    """The settings that decide the weights; the number of workers if it does."""
    Share(0, config.workers).part(config.batch_size)
    if config.verify is not None and config.workers > 1:
        raise InputError(
            "verify: compares the images of a whole batch, which no worker has: set "
            "workers=1, or verify=null"
        )
    recipe = pretrain_recipe(config, tiles, index)
    return with_workers(config, config.model, tiles, STAGE, recipe)


def _draw_pairs(
    config: PretrainJobConfig, tiles: TileDirectory, index: TileIndex
) -> None:
    """Draw the first pairs of the training into ``out``, unless already there."""
    path = config.out / _PAIRS
    if not path.exists():
        pairs = sample_pairs(config, tiles, index, SHOWN)
        title = f"{config.pairs.name}: the first pairs of {config.out.name}"
        draw_pair_sheet(title, pairs).save(path)
        say(f"{NAME}: pairs as they are trained on: {path}")
