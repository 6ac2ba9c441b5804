"""TCGA: survival, mutations, age and histology from RNA, by patients and by sites."""

from __future__ import annotations

import csv
import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.estimates import Estimates
from mshisto_ray.learning.predictions import concatenate
from mshisto_ray.learning.sweep.nested_choice import choices_within_folds
from mshisto_ray.mil import experiment
from mshisto_ray.mil.experiment import ExperimentConfig
from mshisto_ray.mil.fit.cross_validation import CrossValidation, cross_validate
from mshisto_ray.mil.fit.trained import trained_share
from mshisto_ray.studies import _study
from mshisto_ray.studies._study import StudyUnit, UnitResult

_CANCERS = ("blca", "brca", "gbmlgg", "luad")
_SPLITS = {"patients": None, "sites": "site"}
_MUTATION = "_mut"
_BLANK = 0.1  # share of the labels of mutations that are taken away
_GRADES = ("ASTR", "AASTR", "GBM")  # of astrocytomas
# Where a column has more than one histology that some 50 patients have.
_OF_ONE_CANCER: dict[str, dict[str, dict[str, Any]]] = {
    "brca": {"histology": {"column": "oncotree_code", "classes": ["IDC", "ILC"]}},
    "gbmlgg": {
        "histology": {"column": "oncotree_code"},
        "grade": {
            "kind": "ordinal",
            "column": "grade",
            "classes": list(_GRADES),
        },
    },
}
_POINTS: dict[str, dict[str, Any]] = {
    "pca 16": {"reduction": {"name": "pca", "dim": 16}},
    "pca 16, noise 1": {
        "reduction": {"name": "pca", "dim": 16},
        "noise": {"name": "gaussian", "sigma": 1.0},
    },
    "pca 64, decay 1": {
        "reduction": {"name": "pca", "dim": 64},
        "optimiser": {"weight_decay": 1.0},
    },
}
# A step of Cox is the whole training fold, so an epoch is one step.
_EPOCHS = {"survival": 50}
_USUAL_EPOCHS = 20
_CHANCE = {"c_index": 0.5, "auroc": 0.5, "r2": 0.0, "kappa": 0.0}


class TcgaStudy:
    """Linear models; a unit is a cancer, a target and a way to split, swept."""

    def __init__(self, data: Path, cancers: Sequence[str]):
        for name in cancers:
            for file in (f"cohort_{name}.csv", f"rna_{name}.parquet"):
                if not (data / file).is_file():
                    raise InputError(f"data: no {file} in {data}")
        self._data, self._cancers = data, tuple(cancers)

    def units(self) -> list[StudyUnit]:
        """Survival of every cancer first, then the other targets."""
        found = []
        for cancer in self._cancers:
            digests = {
                "cohort": _study.fingerprint(self._data / f"cohort_{cancer}.csv"),
                "rna": _study.fingerprint(self._data / f"rna_{cancer}.parquet"),
            }
            for task, target in self._targets(cancer).items():
                for split in _SPLITS:
                    points = {n: _settings(task, target, split, n) for n in _POINTS}
                    recipe = {"points": points, "blank": _BLANK, **digests}
                    run = functools.partial(self._run, cancer, points)
                    found.append(StudyUnit(f"{cancer}-{task}-{split}", recipe, run))
        return sorted(found, key=lambda unit: "-survival-" not in unit.name)

    def _targets(self, cancer: str) -> dict[str, dict[str, Any]]:
        """What is predicted of a cancer."""
        with (self._data / f"cohort_{cancer}.csv").open() as file:
            names = next(csv.reader(file))
        labels = [name for name in names if name.endswith(_MUTATION)]
        return {
            "survival": {"kind": "survival", "time": "months", "event": "event"},
            "mutations": {"kind": "multilabel", "labels": labels},
            "age": {"kind": "regression", "column": "age"},
            **_OF_ONE_CANCER.get(cancer, {}),
        }

    def _run(self, cancer: str, points: Mapping[str, Any]) -> UnitResult:
        """Train every point; each fold tests the one best on its own validation."""
        found: dict[str, CrossValidation] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bags.parquet"
            pq.write_table(_bags(self._data, cancer), path)
            for name, settings in points.items():
                raw = {"bags": str(path), **settings}
                config = configs.validate(ExperimentConfig, raw)
                bags, splits = experiment.load(config)
                found[name] = cross_validate(bags, splits, config, torch.device("cpu"))
        kind = next(iter(found.values())).test.kind
        metric = kind.chooses
        validation = {n: r.validation for n, r in found.items() if r.validation}
        test = {name: result.test for name, result in found.items()}
        chosen = choices_within_folds(validation, test, metric)
        parts = [test[n].take(test[n].fold == fold) for (_, fold), n in chosen]
        extras = {}
        for name, result in found.items():
            extras[f"val {name}"] = Estimates(validation[name]).values[metric]
            extras[f"test {name}"] = Estimates(result.test).values[metric]
            extras[f"trained {name}"] = trained_share(result.models, kind)
            extras[f"chosen {name}"] = sum(n == name for _, n in chosen)
        return UnitResult(concatenate(parts), extras)

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """A row for each cancer and target, the two ways to split beside each other."""
        header = ["cancer", "target", "patients", "metric"]
        header += [f"folds by {split}" for split in _SPLITS]
        header += ["most chosen", "learned"]
        rows = []
        for cancer in self._cancers:
            for task in self._targets(cancer):
                pair = [done.get(f"{cancer}-{task}-{split}") for split in _SPLITS]
                if any(pair):
                    rows.append([cancer, task, *_row(pair)])
        return _study.markdown(header, rows) + "\n" + _CAPTION


_CAPTION = (
    "Linear models of about 1,550 expressions (arsinh), a bag of one instance a "
    "patient; five folds by patients, or of whole sites. Every fold chooses among "
    f"{len(_POINTS)} points ({'; '.join(_POINTS)}) by its own validation patients, a "
    "fifth of its training patients; the last epoch is scored. Survival: Cox on the "
    "whole training fold, C; mutations: mean AUROC over genes, a tenth of the labels "
    "blanked before training "
    "and testing; age: R2. 95 % intervals over patients, which hold the trained models "
    "as they are. Learned: whether the interval lies above chance (C, AUROC .5; R2, "
    "kappa 0), by patients and by sites.\n"
)


def _row(pair: Sequence[UnitResult | None]) -> list[str]:
    first = next(result for result in pair if result)
    metric = first.predictions.kind.chooses
    cells, learned, counts = [], [], dict.fromkeys(_POINTS, 0.0)
    for result in pair:
        if result is None:
            cells.append("")
            continue
        value = _study.measure([result])[metric]
        cells.append(_study.cell(value))
        learned.append("yes" if value.low > _CHANCE.get(metric, 0.0) else "no")
        for name in counts:
            counts[name] += result.extras[f"chosen {name}"]
    patients = str(len(set(first.predictions.patient_id)))
    most = max(counts, key=lambda name: counts[name])
    return [patients, metric, *cells, most, ", ".join(learned)]


def _bags(data: Path, cancer: str) -> pa.Table:
    """Expressions with the cohort's columns, some labels of mutations blanked.

    Expressions are standardised but have values of several hundred; arsinh is linear
    near 0 and logarithmic far from it, the same for every patient and gene.
    """
    with (data / f"cohort_{cancer}.csv").open() as file:
        cohort = {row["patient_id"]: row for row in csv.DictReader(file)}
    rna = pq.read_table(data / f"rna_{cancer}.parquet")
    names = rna["bag"].to_pylist()
    lost = [name for name in names if name not in cohort]
    if lost:
        raise InputError(f"data: {len(lost)} patients of rna_{cancer} have no row")
    values = np.stack(rna["features"].to_numpy(zero_copy_only=False))
    rows = [cohort[name] for name in names]
    columns: dict[str, Any] = {"bag": names, "patient_id": names}
    columns["features"] = list(np.arcsinh(values.astype(np.float32)))
    rng = np.random.default_rng(0)
    for name in rows[0]:
        cells = [row[name] or None for row in rows]
        if name.endswith(_MUTATION):
            blank = rng.random(len(cells)) < _BLANK
            cells = [None if b else c for b, c in zip(blank, cells, strict=True)]
        columns.setdefault(name, cells)
    del columns["slide_id"]
    codes = [row["oncotree_code"] for row in rows]
    columns["grade"] = pa.array(
        [c if c in _GRADES else None for c in codes], pa.string()
    )
    return pa.table(columns)


def _settings(
    task: str, target: Mapping[str, Any], split: str, point: str
) -> dict[str, Any]:
    own = dict(target)
    if own.get("classes"):
        own["others"] = "leave_out"
    rest = {"optimiser": {"weight_decay": 0.01}, **_POINTS[point]}
    return {
        "target": own,
        "split": {"folds": 5, "validation": 0.2, "group": _SPLITS[split]},
        "pooling": {"name": "embedding_mean"},
        "hidden": [],
        "dropout": 0,
        "epochs": _EPOCHS.get(task, _USUAL_EPOCHS),
        "batch_size": 32,
        "early_stopping": None,
        **rest,
    }


def build(data: Path, *, cancers: tuple[str, ...] = _CANCERS) -> _study.Study:
    """``cancers``: those whose cohort_<cancer>.csv and rna_<cancer>.parquet exist."""
    return TcgaStudy(data, cancers)
