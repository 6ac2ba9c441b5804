"""Splits of the bags that have instances, each part checked for what it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.learning.target_split import split_targets
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.preparation import check_folds, check_representation
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.input.labels import LabelledBags


def plan_splits(
    bags: Bags, config: SplitConfig, training: TrainConfig | None
) -> list[Split]:
    """Splits of all labelled bags, of which those with instances are kept.

    Folds are drawn before bags without instances are dropped, so that they are the
    same for every encoder and scale.

    Raises:
        InputError: folds that cannot be drawn (see ``make_splits``), or a part that
            lacks a class that it needs.
    """
    assert bags.targets is not None
    if training is not None:
        check_representation(bags, training)
    splits = split_targets(
        config, bags.kind, bags.patient_ids, bags.targets, bags.classes, bags.folds,
        bags.groups,
    )  # fmt: skip
    kept = keep_usable(bags, splits, bags.sizes > 0, config, training)
    if training is not None:
        check_folds(bags, [split.train for split in kept], training)
    return kept


def keep_usable(
    bags: LabelledBags,
    splits: Sequence[Split],
    usable: np.ndarray,
    config: SplitConfig,
    training: TrainConfig | None,
) -> list[Split]:
    """The splits without the bags that have no instance.

    Args:
        bags: with targets.
        splits: of all of them.
        usable: bool [B], whether a bag has an instance.
        config: of the splits.
        training: how their training parts are used; None: not for training.

    Raises:
        InputError: a part that lacks a class or bags that it needs.
    """
    check_stopping(splits, config, training)
    stopping = training.early_stopping if training else None
    given = any(len(split.validation) for split in splits)
    kept = [_with_instances(split, usable) for split in splits]
    for split in kept:
        _check_part(bags, split, split.train, "training")
        if stopping and (stopping.metric != "loss" or bags.kind.whole_fold):
            _check_part(bags, split, split.validation, "validation")
        _check_not_empty(split, bool(config.validation) or given)
    return kept


def check_stopping(
    splits: Sequence[Split], config: SplitConfig, training: TrainConfig | None
) -> None:
    """Raise InputError where early stopping has no validation bags to watch."""
    stopping = training.early_stopping if training else None
    given = any(len(split.validation) for split in splits)
    if stopping and config.validation == 0 and not given:
        raise InputError(
            "split.validation is 0, and early stopping needs validation bags: give "
            "split.validation=0.2, or early_stopping=null"
        )


def _with_instances(split: Split, usable: np.ndarray) -> Split:
    """The split without the bags that have no instance; ``usable``: bool, by bag."""
    parts = (split.train, split.validation, split.test)
    train, validation, test = (part[usable[part]] for part in parts)
    return Split(split.repeat, split.fold, train, validation, test)


def _check_not_empty(split: Split, validates: bool) -> None:
    """Raise InputError for a fold without test bags, or validation bags if it needs."""
    where = f"split: fold {split.fold} of repeat {split.repeat}"
    if not len(split.test):
        raise InputError(
            f"{where} has no test bag with instances: use fewer folds, or leave the "
            "slides without tiles out of the cohort"
        )
    if validates and not len(split.validation):
        raise InputError(
            f"{where} has no validation bag with instances; leave the slides without "
            "tiles out of the cohort, give a larger split.validation, or 0 with "
            "early_stopping=null"
        )


def _check_part(bags: LabelledBags, split: Split, index: np.ndarray, part: str) -> None:
    assert bags.targets is not None
    missing = bags.kind.lack(bags.targets[index], bags.classes, part == "training")
    if missing:
        raise InputError(
            f"{missing} in the {part} part of fold {split.fold}, repeat "
            f"{split.repeat}: use fewer folds, a smaller split.validation, or "
            + (bags.kind.remedy if part == "training" else "early_stopping.metric=loss")
        )
