"""The config of fine-tuning, and the checked loading of its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mshisto_ray.config import Config, InputError, InputPath, option
from mshisto_ray.evaluation.labelled_tiles import ANNOTATION
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.learned_labels import record_patients
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.head_fold import HeadFold, read_folds
from mshisto_ray.tile_classification.target import (
    ClassifiedTiles,
    TileTargetConfig,
    read_classified,
)
from mshisto_ray.tile_classification.validation import (
    TileValidationConfig,
    check_held_out,
)
from mshisto_ray.training.config import TrainingConfig, recipe_of
from mshisto_ray.training.held_out import split_patients
from mshisto_ray.training.model import BackboneConfig, ModelConfig, ProjectionConfig
from mshisto_ray.training.summary import summarise


class AgainstConfig(Config):
    """A tile head whose tiles, classes and folds are taken, to compare with it."""

    head: InputPath | None = option(
        None,
        "directory that jobs/tile_head.py made: a network is trained on each of its "
        "folds, and `result` holds predictions and metrics as it does; null: none",
    )
    repeat: int | None = option(None, "the only repeat to train; null: all", ge=0)
    fold: int | None = option(None, "the only fold to train; null: all", ge=0)


class FinetuneConfig(TrainingConfig):
    """Fine-tuning of an encoder on classes of tiles."""

    against: AgainstConfig = AgainstConfig()
    gamma: float = option(0.0, "of the focal loss; 0: cross-entropy", ge=0)
    target: TileTargetConfig = TileTargetConfig()
    model: BackboneConfig = BackboneConfig()
    validation: TileValidationConfig = TileValidationConfig()
    best: Literal[
        "val_loss",
        "val_auroc",
        "val_balanced_accuracy",
        "val_slide_auroc",
        "val_slide_balanced_accuracy",
    ] = option(
        "val_auroc", "metric that selects the encoder to keep; val_loss: the lowest"
    )


@dataclass(frozen=True)
class FinetuneData:
    """Tiles with classes: all of them, those trained on and those held out.

    ``notes``: lines on what is trained on and what was read as missing; ``tested``:
    the fold of a tile head, whose test tiles are neither; None: all tiles are used.
    """

    tiles: TileDirectory
    whole: ClassifiedTiles
    train: ClassifiedTiles
    held_out: ClassifiedTiles
    notes: tuple[str, ...]
    tested: HeadFold | None = None


def load_data(config: FinetuneConfig) -> FinetuneData:
    """Load the tiles and their classes, checked against the config.

    Raises:
        InputError: see ``read_classified`` and ``check_held_out``; a batch smaller
            than the number of classes; a slide metric with classes of single tiles;
            see ``read_folds``.
    """
    tiles = TileDirectory(config.tiles)
    if config.against.head is not None:
        return fold_data(config, tiles, chosen_folds(config, tiles)[0])
    cohort = None
    if config.cohort:
        cohort = read_cohort(config.cohort, False, config.columns)
    whole = read_classified(tiles, cohort, config.target, config.scales)
    _check_classes(config, whole)
    parts = split_patients(whole.index, config.validation.share, config.seed)
    train, held_out = (whole.part(part) for part in parts)
    if config.validation.share:
        check_held_out(train, held_out)
    line = summarise(whole.index, whole.classes, config.validation, config.seed)
    notes = (line, *(cohort.notes if cohort else ()))
    return FinetuneData(tiles, whole, train, held_out, notes)


def chosen_folds(config: FinetuneConfig, tiles: TileDirectory) -> list[HeadFold]:
    """The folds of ``against.head`` that are trained.

    Raises:
        InputError: see ``read_folds``; keys that the head decides; no such fold.
    """
    against = config.against
    assert against.head is not None
    given = [
        key
        for key, value in (("cohort", config.cohort), ("scales", config.scales))
        if value is not None
    ]
    if given or config.target != TileTargetConfig():
        raise InputError(
            f"{', '.join(given) or 'target'}: tiles and classes are those of "
            f"against.head={against.head}; leave it out"
        )
    folds = [
        fold
        for fold in read_folds(Path(against.head), tiles)
        if against.repeat in (None, fold.split.repeat)
        and against.fold in (None, fold.split.fold)
    ]
    if not folds:
        raise InputError(
            f"against: {against.head} has no fold {against.fold} of repeat "
            f"{against.repeat}"
        )
    return folds


def fold_data(
    config: FinetuneConfig, tiles: TileDirectory, fold: HeadFold
) -> FinetuneData:
    """The tiles of one fold of a tile head: to train on, to choose by, to test."""
    whole, split = fold.whole, fold.split
    _check_classes(config, whole)
    train, held_out = (
        whole.part(fold.tiles(p)) for p in (split.train, split.validation)
    )
    if config.best == "val_auroc" and len(np.unique(held_out.code)) == 1:
        raise InputError(
            f"best=val_auroc: the validation tiles of fold {split.fold} are of one "
            "class: take val_balanced_accuracy, as tile_head does, or val_loss"
        )
    note = (
        f"repeat {split.repeat}, fold {split.fold} of a tile head: {len(split.test):,} "
        "tiles are tested"
    )
    return FinetuneData(tiles, whole, train, held_out, (note,), fold)


def _check_classes(config: FinetuneConfig, whole: ClassifiedTiles) -> None:
    if config.batch_size < len(whole.classes):
        raise InputError(
            f"batch_size: {config.batch_size} images are fewer than the "
            f"{len(whole.classes)} classes: raise it, or name fewer in target.classes"
        )
    if config.best.startswith("val_slide") and not whole.by_slide:
        raise InputError(
            f"best={config.best}: with target.column={ANNOTATION} a slide has tiles of "
            "several classes: take val_auroc, val_balanced_accuracy or val_loss"
        )


def with_head(config: FinetuneConfig, classes: tuple[str, ...]) -> ModelConfig:
    """The backbone with a linear layer on its pooled features, one logit a class."""
    head = ProjectionConfig(hidden=(), dim=len(classes))
    return ModelConfig(**config.model.model_dump(), projection=head)


def recorded(config: FinetuneConfig, data: FinetuneData) -> dict[str, Any]:
    """What a fine-tuning's manifest records: its config, and whose labels it read."""
    patients = {name: row["patient_id"] for name, row in data.tiles.slides.items()}
    if config.cohort:
        cohort = read_cohort(config.cohort, False, config.columns)
        patients |= {row.slide_id: row.patient_id for row in cohort.rows}
    learned = {*data.train.slides(), *data.held_out.slides()}
    return config.model_dump(mode="json") | record_patients(
        [patients[slide_id] for slide_id in learned], config.model.weights
    )


def finetune_recipe(config: FinetuneConfig, data: FinetuneData) -> dict[str, Any]:
    """Everything that the weights depend on; of the cohort, patients and classes."""
    recipe = recipe_of(config, FinetuneConfig, data.tiles)
    del recipe["cohort"], recipe["against"]
    if not config.gamma:  # as before it was a key
        del recipe["gamma"]
    index, fold = data.whole.index, data.tested
    labels = [index.slide_ids, index.patient.tolist(), index.label.tolist()]
    if fold is not None:
        parts = (fold.split.train, fold.split.validation, fold.split.test)
        labels.append([fold.tiles(part).tolist() for part in parts])
    if config.target.column == ANNOTATION or fold is not None:
        labels.append(data.whole.code.tolist())
    digest = recipe_digest({"": labels})
    return recipe | {"classes": data.whole.classes, "labels": digest}
