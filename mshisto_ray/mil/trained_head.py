"""The head of a cross-validation: its models, and what they take and give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mshisto_ray.learning.split import Split
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import CrossValidation
from mshisto_ray.mil.fit.fold import ModelInput
from mshisto_ray.mil.fit.fold_model import FoldModel
from mshisto_ray.mil.head import (
    FITTED,
    INSTANCES,
    REFIT_FITTED,
    VERSION,
    Head,
    HeadModel,
    write_head,
)
from mshisto_ray.mil.input.bags import Bags

_NEVER_TESTED = -1


def make_head(
    result: CrossValidation, bags: Bags, config: TrainConfig, about: Mapping[str, Any]
) -> Head:
    """The head of a cross-validation.

    Args:
        result: the models.
        bags: that they were trained on.
        config: of the models.
        about: JSON values on where the bags came from (unit, target, split).
    """
    folds = _test_folds(result.splits, bags)
    keys = [(split.repeat, split.fold) for split in result.splits]
    models = [
        _head_model(repeat, fold, found)
        for (repeat, fold), found in zip(keys, result.models, strict=True)
    ]
    if result.refit:
        models.append(_head_model(None, None, result.refit))
    shape = bags.encoder, bags.digest, bags.scale, bags.scales
    content = describe_head(bags, config, *shape) | {
        "models": [
            {"repeat": r, "fold": f, **_fitted(model)}
            for (r, f), model in zip(keys, result.models, strict=True)
        ],
        "refit": result.refit is not None,
        **(_fitted(result.refit, REFIT_FITTED) if result.refit else {}),
        "folds": folds,
        # Patients by the fingerprints of their slides: a copy may have another name.
        **({"slides": dict(bags.fingerprints)} if bags.fingerprints else {}),
        **({"tile_px": bags.tile_px} if bags.tile_px else {}),
        **about,
    }
    return Head(
        bags.classes,
        bags.dims,
        bags.scale,
        bags.scales,
        bags.encoder,
        config.vote,
        folds,
        tuple(models),
        content,
        bags.kind,
    )


def _test_folds(splits: Sequence[Split], bags: Bags) -> dict[str, list[int]]:
    """The test fold of each patient in each repeat, see ``Head.folds``."""
    folds: dict[str, list[int]] = {}
    for split in splits:
        for patient in sorted({bags.patient_ids[i] for i in split.test}):
            folds.setdefault(patient, []).append(split.fold)
    repeats = len({split.repeat for split in splits})
    used = {i for split in splits for i in (*split.train, *split.validation)}
    for patient in sorted({bags.patient_ids[i] for i in used} - set(folds)):
        folds[patient] = [_NEVER_TESTED] * repeats
    return folds


def _head_model(repeat: int | None, fold: int | None, found: FoldModel) -> HeadModel:
    return HeadModel(repeat, fold, found.model, found.standardisation, found.fitted)


def describe_head(
    given: ModelInput,
    config: TrainConfig,
    encoder: Mapping[str, Any] | None,
    digest: str,
    scale: float | None,
    scales: tuple[float, ...] | None,
) -> dict[str, Any]:
    """The part of ``model.json`` that says what a head takes and gives."""
    is_binary = given.kind.of_classes and len(given.classes) == 2
    return {
        "version": VERSION,
        "classes": list(given.classes),
        # A bag is assigned the most probable class; of two, the second above this.
        "threshold": 0.5 if is_binary else None,
        "dims": given.dims,
        "scale": scale,
        "scales": scales,
        # Heads of earlier versions lack it: their bags held coarse tiles that are only
        # ancestors of finer ones, too.
        **({INSTANCES: "own"} if scales else {}),
        "encoder": encoder,
        "embeddings_digest": digest,
        "config": config.model_dump(mode="json", include=set(TrainConfig.model_fields)),
    }


def save_head(
    path: Path,
    result: CrossValidation,
    bags: Bags,
    config: TrainConfig,
    about: Mapping[str, Any],
) -> None:
    """Write the head of a cross-validation; see ``make_head`` and ``write_head``."""
    write_head(path, make_head(result, bags, config, about))


def _fitted(model: FoldModel, key: str = FITTED) -> dict[str, Any]:
    """What the target of a model was fitted to, where it was."""
    state = model.fitted.state
    return {key: state} if state else {}
