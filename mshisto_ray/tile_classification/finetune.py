"""Fine-tuning in one process: from tiles and their classes to an encoder directory.

The loop is that of pretraining, with cross-entropy or the focal loss on a linear head
over the pooled features in place of pairs: the fully trained network that Nivaggioli
et al. 2023 compare with deep feature learning, their name for frozen embeddings with
small heads.
"""

from __future__ import annotations

import numpy as np
import torch

from mshisto_ray.store.manifest import open_stage
from mshisto_ray.tile_classification.class_batches import ClassBatches, ClassLoss
from mshisto_ray.tile_classification.finetune_config import (
    FinetuneConfig,
    FinetuneData,
    finetune_recipe,
    load_data,
    recorded,
    with_head,
)
from mshisto_ray.tile_classification.validation import TileValidation
from mshisto_ray.training.joint_batch import WHOLE, Share
from mshisto_ray.training.loop import Say, Training
from mshisto_ray.training.reading import IndexedTileReader, check_slides
from mshisto_ray.training.task import Trained, TrainingTask
from mshisto_ray.training.tile_index import TileIndex

NAME, STAGE = "finetune", "finetuning"


def finetune(config: FinetuneConfig, say: Say = print) -> Trained:
    """Train and keep the best encoder; an unfinished run is resumed.

    Raises:
        InputError: see ``load_data``; training diverged.
    """
    data = load_data(config)
    check_slides(data.tiles)
    recipe = finetune_recipe(config, data)
    with open_stage(config.out, STAGE, recipe, recorded(config, data)):
        return finetune_share(config, data, say)


def finetune_share(
    config: FinetuneConfig,
    data: FinetuneData,
    say: Say,
    share: Share = WHOLE,
    device: torch.device | None = None,
) -> Trained:
    """One worker's part of ``finetune``, in a process group if there are several."""
    task = _task(config, data, share.rank == 0)
    return Training(config, data.tiles, task, say, share, device).run()


def _task(config: FinetuneConfig, data: FinetuneData, validates: bool) -> TrainingTask:
    """The training task of classifying tiles."""
    train, held_out = data.train, data.held_out
    validate = None
    if validates and len(held_out.index):
        reader = IndexedTileReader(data.tiles, held_out.index, config.runtime.readers)
        validate = TileValidation(held_out, reader, config.validation.tiles)

    def make_source(index: TileIndex, chosen: np.ndarray) -> ClassBatches:
        return ClassBatches(index, train.code[chosen], config.batch_size)

    return TrainingTask(
        NAME,
        with_head(config, train.classes),
        ClassLoss(config.gamma),
        train.index,
        make_source,
        1,
        _monitor,
        validate,
        config.validation.every,
        config.best,
        lambda metrics, step: None,
    )


def _monitor(logits: torch.Tensor, targets) -> dict[str, float]:
    """Accuracy on a training batch's tiles of known class."""
    (code,) = targets
    known = code >= 0
    hits = logits[known].argmax(dim=1) == code[known]
    return {"accuracy": float(hits.float().mean())}
