"""Splits of a target's bags; patients, or what a column names, stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mshisto_ray.config import InputError, option
from mshisto_ray.learning.split import Split, SplitConfig, make_splits
from mshisto_ray.learning.targets import Target


class GroupedSplitConfig(SplitConfig):
    """Repeated cross-validation with patients, or sites, kept together."""

    group: str | None = option(
        None,
        "column whose values stay together, as site: every fold, and the validation "
        "bags, are of values that the model is not trained on; null: patients do",
    )

    @property
    def together(self) -> str | None:
        """``group``."""
        return self.group


def split_targets(
    config: SplitConfig,
    target: Target,
    patients: Sequence[str],
    truth: np.ndarray,
    names: Sequence[str],
    given: Sequence[str | None] | None = None,
    groups: Sequence[str | None] | None = None,
) -> list[Split]:
    """``make_splits`` with the strata of a target.

    ``groups``: of each bag, which stay together where ``config.together`` names them.

    Raises:
        InputError: see ``make_splits``, ``Target.strata`` and ``check_groups``.
    """
    what = "patients"
    if config.together is not None:
        patients = check_groups(config, patients, groups, given)
        what = f"values of {config.together!r}"
    if not len(truth):
        raise InputError(
            f"{target.title}: no labelled bag is left: is it the right column, and has "
            "it values?"
        )
    strata = target.strata(truth, names, config.folds)
    folds = config, patients, strata.of, strata.names, given, strata.each_fold
    if target.of_classes:
        return make_splits(*folds, what=what)
    return make_splits(*folds, target.remedy, what)


def check_groups(
    config: SplitConfig,
    patients: Sequence[str],
    groups: Sequence[str | None] | None,
    given: Sequence[str | None] | None,
) -> list[str]:
    """The group of each bag, which takes the place of its patient in splits.

    Raises:
        InputError: folds are given too, a bag has no group, or a patient two.
    """
    name = config.together
    if given is not None:
        raise InputError(
            f"split.group={name}: folds are given in column {config.column!r}, and "
            "only one of the two can decide: give split.column=null, or no split.group"
        )
    if groups is None:
        raise InputError(f"split.group={name}: the bags were read without it")
    known = [g for g in groups if g is not None]
    empty = sorted({p for p, g in zip(patients, groups, strict=True) if g is None})
    if empty:
        raise InputError(
            f"split.group={name}: empty for {len(empty)} patients with a label "
            f"({', '.join(empty[:3])}): fill it in, or leave them out"
        )
    seen: dict[str, str] = {}
    for patient, group in zip(patients, known, strict=True):
        if seen.setdefault(patient, group) != group:
            raise InputError(
                f"split.group={name}: patient {patient!r} has {seen[patient]!r} and "
                f"{group!r}: a patient belongs to one"
            )
    if len(set(known)) < 2:
        raise InputError(
            f"split.group={name}: all bags have {known[0]!r}; at least two are needed"
        )
    return known
