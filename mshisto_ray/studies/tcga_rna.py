"""TCGA: survival, mutations, age and histology from RNA, by patients and by sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.predictions import concatenate
from mshisto_ray.learning.sweep.nested_choice import choices_within_folds
from mshisto_ray.learning.target_split import GroupedSplitConfig, split_targets
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.studies import _study, _tcga_table
from mshisto_ray.studies._study import StudyUnit, SweptPoint, UnitResult, UnitSweep
from mshisto_ray.studies._tcga_cohort import (
    BLANK,
    TcgaCohort,
    cancers_of,
    read_tcga,
    tasks_of,
)

_FOLDS = 5
_SPLITS = {"patients": None, "sites": "site"}
_RATE = 0.02  # with the epochs below the training loss has stopped to fall
_POINTS: dict[str, dict[str, Any]] = {
    "pca 16": {"reduction": {"name": "pca", "dim": 16}},
    "pca 16, noise 1": {
        "reduction": {"name": "pca", "dim": 16},
        "noise": {"name": "gaussian", "sigma": 1.0},
    },
    "pca 64, noise 1": {
        "reduction": {"name": "pca", "dim": 64},
        "noise": {"name": "gaussian", "sigma": 1.0},
    },
}
# A step of Cox is the whole training fold, so an epoch is one step.
_EPOCHS = {"survival": 100}
_USUAL_EPOCHS = 40
_LEAST_TRAINING = 64  # the widest reduction
_SECONDS = 0.003  # of a core for each patient and point, measured


class TcgaStudy:
    """Linear models; a unit is a cancer, a target and a way to split, swept.

    Raises:
        InputError: see ``read_tcga``; labels that a target refuses.
    """

    def __init__(self, data: Path, cancers: Sequence[str], clip: float | None = None):
        self._clip = clip
        self._cohorts = {name: read_tcga(data, name) for name in cancers}
        self._tasks = {
            (cancer, name): task
            for cancer, cohort in self._cohorts.items()
            for name, task in tasks_of(cohort).items()
        }
        self._reasons: dict[str, str] = {}
        self._units = sorted(self._plan(), key=lambda u: "-survival-" not in u.name)

    def units(self) -> list[StudyUnit]:
        """Survival of every cancer first, then the other targets."""
        return self._units

    def _plan(self) -> Iterator[StudyUnit]:
        for (cancer, name), task in self._tasks.items():
            cohort = self._cohorts[cancer]
            if task.target is None:
                self._reasons[f"{cancer} {name}"] = task.reason
                continue
            for split, group in _SPLITS.items():
                try:
                    reason = _problem(cohort, task.target, group)
                except InputError as error:
                    raise InputError(f"{cancer}, {name}: {error}") from None
                if reason:
                    self._reasons[f"{cancer} {name} by {split}"] = reason
                    continue
                given = name, task.target, group
                points = {n: _settings(*given, n, self._clip) for n in _POINTS}
                recipe = {"points": points, "blank": BLANK, **cohort.digests}
                run = UnitSweep(_sweep(*given, self._clip), cohort.bags, _conclude)
                hours = len(points) * task.patients * _SECONDS / 3600
                yield StudyUnit(f"{cancer}-{name}-{split}", recipe, run, hours)

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """A row for each cancer and target, the two ways to split beside each other."""
        found = {
            place: [done.get(f"{place[0]}-{place[1]}-{split}") for split in _SPLITS]
            for place in self._tasks
        }
        table = _tcga_table.render(self._tasks, found, list(_POINTS), list(_SPLITS))
        survival = _tcga_table.render_survival(found, list(_SPLITS))
        table += f"\n{survival}" if survival else ""
        places: dict[str, list[str]] = {}
        for where, why in self._reasons.items():
            places.setdefault(why, []).append(where)
        empty = "; ".join(f"{why} ({', '.join(of)})" for why, of in places.items())
        return f"{table}\n{_CAPTION}" + (f"Empty: {empty}.\n" if empty else "")


_CAPTION = (
    "Linear models of about 1,550 expressions (arsinh), a bag of one instance a "
    "patient; five folds by patients, or of whole sites. Every fold chooses among "
    f"{len(_POINTS)} points ({'; '.join(_POINTS)}) by its own validation patients, a "
    "fifth of its training patients; the last epoch is scored. Survival: Cox on the "
    "whole training fold, C; mutations: mean AUROC over genes, a tenth of the labels "
    "blanked before training and testing; age: R2. 95 % intervals over patients, which "
    "hold the trained models as they are. Learned: whether the interval lies above "
    "chance (C, AUROC .5; R2, kappa 0), by patients and by sites.\n"
)


def _problem(
    cohort: TcgaCohort, target: Mapping[str, Any], group: str | None
) -> str | None:
    """Why folds cannot be drawn; None if they can.

    Raises:
        InputError: cells that the target refuses.
    """
    if group and group not in cohort.columns:
        return f"no column {group}"
    kind = configs.validate(TargetConfig, dict(target)).build()
    cells = list(zip(*(cohort.columns[name] for name in kind.columns), strict=True))
    found = kind.encode(cells, cohort.patients, "patients")
    kept = found.kept.tolist()
    patients = [cohort.patients[i] for i in kept]
    groups = [cohort.columns[group][i] for i in kept] if group else None
    if groups and len(set(groups)) < _FOLDS:
        return f"{len(set(groups))} values of {group} for {_FOLDS} folds"
    config = configs.validate(GroupedSplitConfig, _split(group))
    given = config, kind, patients, found.truth, found.names, None, groups
    try:
        splits = split_targets(*given)
    except InputError as error:
        return str(error)
    for split in splits:
        lack = kind.lack(found.truth[split.train], found.names, True)
        if len(split.train) < _LEAST_TRAINING:
            lack = f"{len(split.train)} patients"
        if lack:
            return f"{lack} in the training part of a fold"
    return None


def _conclude(points: Sequence[SweptPoint]) -> UnitResult:
    """Each fold tests the point that is best on its own validation."""
    found = dict(zip(_POINTS, points, strict=True))
    metric = points[0].test.kind.chooses
    validation = {name: point.validation for name, point in found.items()}
    test = {name: point.test for name, point in found.items()}
    chosen = choices_within_folds(validation, test, metric)
    parts = [test[n].take(test[n].fold == fold) for (_, fold), n in chosen]
    extras = {}
    for name, point in found.items():
        extras[f"val {name}"] = Estimates(point.validation).values[metric]
        extras[f"trained {name}"] = point.trained
        extras[f"chosen {name}"] = float(np.sum([n == name for _, n in chosen]))
    return UnitResult(concatenate(parts), extras)


def _sweep(
    task: str, target: Mapping[str, Any], group: str | None, clip: float | None
) -> dict[str, Any]:
    """Keys of ``mshisto sweep`` whose points are those of the study, in their order."""
    keys = dict.fromkeys(key for point in _POINTS.values() for key in point)
    usual = {key: ExperimentConfig.model_fields[key].default for key in keys}
    axes = {
        key: [point.get(key, usual[key].model_dump()) for point in _POINTS.values()]
        for key in keys
    }
    common = _settings(task, target, group, next(iter(_POINTS)), clip)
    rest = {key: value for key, value in common.items() if key not in keys}
    return {**rest, "axes": axes, "search": {"name": "paired"}}


def _split(group: str | None) -> dict[str, Any]:
    return {"folds": _FOLDS, "validation": 0.2, "group": group}


def _settings(
    task: str,
    target: Mapping[str, Any],
    group: str | None,
    point: str,
    clip: float | None,
) -> dict[str, Any]:
    return {
        "target": dict(target),
        "split": _split(group),
        "pooling": {"name": "embedding_mean"},
        "hidden": [],
        "dropout": 0,
        "epochs": _EPOCHS.get(task, _USUAL_EPOCHS),
        "batch_size": 32,
        "early_stopping": None,
        "optimiser": {"lr": _RATE},
        # As it was before it was a key.
        **({} if clip is None else {"clip": clip}),
        **_POINTS[point],
    }


def build(
    data: Path,
    *,
    cancers: tuple[str, ...] | None = None,
    clip: Annotated[float, Field(gt=0)] | None = None,
) -> _study.Study:
    """``cancers``: with cohort_<cancer>.csv and, if known, rna_<cancer>.parquet; all.

    ``clip``: of standardised expressions, as of ``train``.

    A cancer without expressions, and a target that too few patients have, are rows of
    empty cells.
    """
    given = cancers_of(data) if cancers is None else cancers
    return TcgaStudy(data, given, clip)
