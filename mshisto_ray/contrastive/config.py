"""The config of pretraining, and the checked loading of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import model_validator

from mshisto_ray import components
from mshisto_ray.components import Family, Part
from mshisto_ray.config import InputError, option
from mshisto_ray.contrastive.pair_batches import PAIRS, check_batches
from mshisto_ray.contrastive.presets import PRESETS
from mshisto_ray.contrastive.validation import ValidationConfig
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.learned_labels import record_patients
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.augment import AugmentConfig
from mshisto_ray.training.blocks import BlockConfig
from mshisto_ray.training.config import TrainingConfig, recipe_of
from mshisto_ray.training.held_out import split_patients
from mshisto_ray.training.model import ModelConfig
from mshisto_ray.training.summary import summarise
from mshisto_ray.training.tile_index import UNKNOWN, TileIndex, read_index

LOSSES = "mshisto_ray.contrastive.losses"
Preset = Literal[
    "gildenblat2019", "gildenblat2019_small", "tan2023", "tan2023_small",
    "wu2018", "wu2018_small",
]  # fmt: skip


class PretrainAugmentConfig(AugmentConfig):
    """Geometry only by default: pairs of one slide compare tiles of one stain."""

    brightness: float = option(0.0, "factor 1 +- brightness", ge=0, le=1)
    contrast: float = option(0.0, "factor 1 +- contrast about mean luma", ge=0, le=1)
    saturation: float = option(0.0, "factor 1 +- saturation about luma", ge=0, le=1)
    hue: float = option(0.0, "turn of HSV hue by +- hue", "turns", ge=0, le=0.5)


class PretrainBlockConfig(BlockConfig):
    """Large parts of few slides by default: far tiles are those of one slide."""

    slides: int = option(4, "slides they come from", "slides", ge=1)


class PretrainConfig(TrainingConfig):
    """Contrastive pretraining of an encoder."""

    preset: Preset | None = option(
        None, "a paper's settings; other keys given replace its own"
    )
    label: str | None = option(None, "column of the cohort with the slides' classes")
    pairs: Annotated[Part, Family(PAIRS)] = option(
        Part.model_validate(
            {
                "name": "multi_scale",
                "same_slide": "by_distance",
                "places_per_slide": 1,
                "slides_per_batch": 1,
                "near_um": None,
                "far_um": 1500.0,
            }
        ),
        "which tiles are positive and negative pairs",
    )
    # Subclasses, so that a given key leaves the other defaults unchanged.
    augment: PretrainAugmentConfig = PretrainAugmentConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    blocks: PretrainBlockConfig = PretrainBlockConfig()  # pyright: ignore[reportIncompatibleVariableOverride]
    loss: Annotated[Part, Family(LOSSES)] = option(
        Part(name="nt_xent"), "loss of the pairs"
    )
    verify: float | None = option(
        None,
        "drop pairs whose appearance contradicts their label: quantile of the other "
        "kind's distances, fewer are dropped the larger it is; null: keep all",
        gt=0,
        lt=1,
    )
    model: ModelConfig = ModelConfig()
    batch_size: int = option(128, "images a step, two a pair", "images", ge=4)
    validation: ValidationConfig = ValidationConfig()
    best: str = option(
        "val_recall_at_10",
        "metric that selects the encoder to keep; of losses: the lowest",
    )
    on_collapse: Literal["warn", "stop"] = option(
        "warn", "what to do when features collapse"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, raw: Any) -> Any:
        name = raw.get("preset") if isinstance(raw, dict) else None
        return _merged(PRESETS[name], raw) if name in PRESETS else raw


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` on top; a part of another name is replaced whole."""
    result = dict(base)
    for key, value in over.items():
        old, result[key] = result.get(key), value
        if isinstance(value, dict) and isinstance(old, dict):
            name = old.get("name")
            if value.get("name", name) == name:
                result[key] = _merged(old, value)
    return result


def pretrain_recipe(
    config: PretrainConfig, tiles: TileDirectory, index: TileIndex
) -> dict[str, Any]:
    """Everything that the weights depend on; of the cohort, patients and classes."""
    recipe = recipe_of(config, PretrainConfig, tiles)
    del recipe["cohort"]
    labels = [index.slide_ids, index.patient.tolist(), index.label.tolist()]
    return recipe | {"labels": recipe_digest({"": labels})}


def load_index(config: PretrainConfig) -> tuple[TileDirectory, TileIndex]:
    """Load the tiles and their index, checked against the config.

    Raises:
        InputError: scales, labels or pairs that the tiles do not have.
    """
    tiles = TileDirectory(config.tiles)
    if config.label and not _pairs_declare(config, "COMPARES_CLASSES"):
        able = " and ".join(components.declarations(PAIRS, "COMPARES_CLASSES"))
        raise InputError(
            f"label: {config.pairs.name} pairs compare no classes ({able} do): leave "
            "it out, or take other pairs"
        )
    _check_memory(config)
    labels, patients = _of_cohort(config, tiles)
    index = read_index(tiles, list(tiles.slides), labels, config.scales, patients)
    unlinked = len(index.scales) < 2 and config.validation.share
    if config.best == "val_recall_at_10" and unlinked:
        raise InputError(
            "best: val_recall_at_10 compares tiles of two scales, and there is one "
            "scale only: take val_near_far_auc or val_loss"
        )
    train, _ = split_patients(index, config.validation.share, config.seed)
    check_batches(index.subset(train), config.pairs, config.batch_size)
    if config.verify is not None and not _pairs_declare(config, "VERIFIABLE"):
        able = " and ".join(components.declarations(PAIRS, "VERIFIABLE"))
        raise InputError(f"verify: only {able} pairs have labels to verify")
    _check_blocks(config, index.subset(train))
    return tiles, index


def _check_memory(config: PretrainConfig) -> None:
    """Refuse single tiles without a loss that remembers tiles, and the reverse."""
    remembers = components.declaration(LOSSES, config.loss.name, "REMEMBERS", False)
    if remembers == _pairs_declare(config, "SINGLE"):
        return
    able = " or ".join(components.declarations(PAIRS, "SINGLE"))
    if remembers:
        raise InputError(
            f"pairs: loss {config.loss.name} compares each tile with all that it "
            f"remembers: take pairs.name={able}"
        )
    losses = " or ".join(components.declarations(LOSSES, "REMEMBERS"))
    raise InputError(
        f"loss: {config.pairs.name} pairs have none that are alike, and "
        f"{config.loss.name} needs some: take loss.name={losses}"
    )


def _of_cohort(
    config: PretrainConfig, tiles: TileDirectory
) -> tuple[dict[str, int], dict[str, str]]:
    """Class number and patient of the cohort's slides, by slide_id."""
    if config.cohort is None:
        if config.label:
            raise InputError("label: give the cohort that has this column")
        return {}, {}
    cohort = read_cohort(config.cohort, False, config.columns)
    patients = {row.slide_id: row.patient_id for row in cohort.rows}
    if not patients.keys() & tiles.slides.keys():
        raise InputError(f"{config.cohort}: none of its slides is in {config.tiles}")
    if not config.label:
        return {}, patients
    column = cohort.column(config.label)
    names = _class_names(column)
    labels = {s: names.index(v) for s, v in column.items() if v is not None}
    return labels, patients


def _class_names(column: Mapping[str, str | None]) -> list[str]:
    return sorted({value for value in column.values() if value is not None})


def recorded(config: PretrainConfig, tiles: TileDirectory) -> dict[str, Any]:
    """What a pretraining's manifest records: its config, and whose labels it read."""
    labels, patients = _of_cohort(config, tiles)
    learned = [patients[slide_id] for slide_id in labels if slide_id in tiles.slides]
    known = record_patients(learned, config.model.weights)
    return config.model_dump(mode="json") | known


def describe(config: PretrainConfig, index: TileIndex) -> list[str]:
    """Return lines on what is trained on: slides, patients, classes, missing words."""
    names, notes = [], []
    if config.label and config.cohort:
        cohort = read_cohort(config.cohort, False, config.columns)
        names, notes = _class_names(cohort.column(config.label)), list(cohort.notes)
    return [summarise(index, names, config.validation, config.seed), *notes]


def _check_blocks(config: PretrainConfig, index: TileIndex) -> None:
    """Refuse blocks that hold one class where tiles of other classes are negatives."""
    num = len(np.unique(index.label[index.label != UNKNOWN]))
    are_negatives = _pairs_declare(config, "COMPARES_CLASSES") and num > 1
    if are_negatives and len(index) > config.blocks.tiles and config.blocks.slides < 2:
        raise InputError(
            "blocks.slides: 1 slide in memory has one class, and tiles of other "
            f"classes are the negatives: raise it to {num} (the classes) or more"
        )


def _pairs_declare(config: PretrainConfig, key: str) -> bool:
    return components.declaration(PAIRS, config.pairs.name, key, False)
