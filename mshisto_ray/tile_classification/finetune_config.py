"""The config of fine-tuning, and the checked loading of its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mshisto_ray.config import InputError, option
from mshisto_ray.evaluation.labelled_tiles import ANNOTATION
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
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


class FinetuneConfig(TrainingConfig):
    """Fine-tuning of an encoder on classes of tiles."""

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

    ``notes``: lines on what is trained on and what was read as missing.
    """

    tiles: TileDirectory
    whole: ClassifiedTiles
    train: ClassifiedTiles
    held_out: ClassifiedTiles
    notes: tuple[str, ...]


def load_data(config: FinetuneConfig) -> FinetuneData:
    """Load the tiles and their classes, checked against the config.

    Raises:
        InputError: see ``read_classified`` and ``check_held_out``; a batch smaller
            than the number of classes; a slide metric with classes of single tiles.
    """
    tiles = TileDirectory(config.tiles)
    cohort = None
    if config.cohort:
        cohort = read_cohort(config.cohort, False, config.columns)
    whole = read_classified(tiles, cohort, config.target, config.scales)
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
    parts = split_patients(whole.index, config.validation.share, config.seed)
    train, held_out = (whole.part(part) for part in parts)
    if config.validation.share:
        check_held_out(train, held_out)
    line = summarise(whole.index, whole.classes, config.validation, config.seed)
    notes = (line, *(cohort.notes if cohort else ()))
    return FinetuneData(tiles, whole, train, held_out, notes)


def with_head(config: FinetuneConfig, classes: tuple[str, ...]) -> ModelConfig:
    """The backbone with a linear layer on its pooled features, one logit a class."""
    head = ProjectionConfig(hidden=(), dim=len(classes))
    return ModelConfig(**config.model.model_dump(), projection=head)


def finetune_recipe(config: FinetuneConfig, data: FinetuneData) -> dict[str, Any]:
    """Everything that the weights depend on; of the cohort, patients and classes."""
    recipe = recipe_of(config, FinetuneConfig, data.tiles)
    del recipe["cohort"]
    index = data.whole.index
    labels = [index.slide_ids, index.patient.tolist(), index.label.tolist()]
    if config.target.column == ANNOTATION:
        labels.append(data.whole.code.tolist())
    digest = recipe_digest({"": labels})
    return recipe | {"classes": data.whole.classes, "labels": digest}
