"""Pretraining in one process: from a tiles directory to an encoder directory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mshisto_ray import components
from mshisto_ray.config import InputError
from mshisto_ray.contrastive.config import (
    LOSSES,
    PretrainConfig,
    load_index,
    pretrain_recipe,
    recorded,
)
from mshisto_ray.contrastive.monitor import collapse, projection_monitors
from mshisto_ray.contrastive.pair_batches import PAIRS, pair_batches
from mshisto_ray.contrastive.validation import Validation
from mshisto_ray.contrastive.verification import sample_verification
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.held_out import split_patients
from mshisto_ray.training.joint_batch import WHOLE, Share
from mshisto_ray.training.loop import Say, Training
from mshisto_ray.training.reading import IndexedTileReader, check_slides
from mshisto_ray.training.task import Trained, TrainingTask
from mshisto_ray.training.tile_index import TileIndex

NAME, STAGE = "pretrain", "pretraining"


def pretrain(config: PretrainConfig, say: Say = print) -> Trained:
    """Train and keep the best encoder; an unfinished run is resumed.

    Raises:
        InputError: see ``load_index``; training diverged, or collapsed with
            ``on_collapse: stop``.
    """
    tiles, index = load_index(config)
    check_slides(tiles)
    recipe = pretrain_recipe(config, tiles, index)
    with open_stage(config.out, STAGE, recipe, recorded(config, tiles)):
        return pretrain_share(config, tiles, index, say)


def pretrain_share(
    config: PretrainConfig,
    tiles: TileDirectory,
    index: TileIndex,
    say: Say,
    share: Share = WHOLE,
    device: torch.device | None = None,
) -> Trained:
    """One worker's part of ``pretrain``, in a process group if there are several."""
    is_first = share.rank == 0
    task = _task(config, tiles, index, say if is_first else None)
    return Training(config, tiles, task, say, share, device).run()


def _report_notes(config: PretrainConfig, index: TileIndex, say: Say) -> None:
    """Report the notes of the source of pairs on the tiles."""
    notes = getattr(components.build(PAIRS, config.pairs, index), "notes", None)
    for note in notes() if notes else []:
        say(f"{NAME}: {note}")


def _task(
    config: PretrainConfig, tiles: TileDirectory, index: TileIndex, say: Say | None
) -> TrainingTask:
    """The training task of pairs; ``say``: given on the worker that validates."""
    train, held_out = split_patients(index, config.validation.share, config.seed)
    own = index.subset(train)
    reader = IndexedTileReader(tiles, own, config.runtime.readers)
    limits = sample_verification(config.verify, config.pairs, own, reader)
    validate = None
    if len(held_out) and say:
        reader = IndexedTileReader(tiles, index, config.runtime.readers)
        settings = config.validation, config.pairs, config.batch_size
        validate = Validation(index, reader, held_out, *settings)
        for note in validate.notes:
            say(f"{NAME}: {note}")
    if say:
        _report_notes(config, own, say)
    loss = components.build(LOSSES, config.loss)
    if components.declaration(LOSSES, config.loss.name, "REMEMBERS", False):
        loss.begin(len(own), config.model.projection.dim, config.seed)

    def monitor(projections, targets):
        positive, negative = (relation.numpy() for relation in targets[:2])
        return projection_monitors(projections, positive, negative, loss)

    return TrainingTask(
        NAME,
        config.model,
        loss,
        own,
        pair_batches(config.pairs, config.batch_size, limits),
        2,
        monitor,
        validate,
        config.validation.every,
        config.best,
        _collapse_judge(config, say),
    )


def _collapse_judge(
    config: PretrainConfig, say: Say | None
) -> Callable[[dict[str, float], int], None]:
    """The check of each step's metrics: stop training on collapse, or warn of it."""
    stops, advice = config.on_collapse == "stop", _advice(config)

    def judge(metrics: dict[str, float], step: int) -> None:
        problem = collapse(metrics) if step and "spread" in metrics else None
        if step and metrics.get("val_collapsed"):
            problem = problem or "embeddings of held-out patients hardly differ"
        if not problem:
            return
        message = f"{problem} at step {step}: embeddings carry little information"
        if stops:
            raise InputError(f"collapse: {message}; {advice}")
        if say:
            say(f"{NAME}: warning: {message}; {advice}")

    return judge


def _advice(config: PretrainConfig) -> str:
    advice = "lower optimiser.lr, raise the batch size, or take another loss"
    if config.model.weights == "random" or config.model.norm == "frozen":
        return advice
    # Running statistics lag behind tiles unlike those that the weights learned from,
    # and through many layers the lag multiplies: features are constant without any
    # step of the optimiser.
    return f"set model.norm=frozen, which keeps the statistics of the weights; {advice}"
