"""Bags, and the training and application of models, in this process, without Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from mshisto_ray import config as configs
from mshisto_ray.learning.predictions import Predictions, as_table
from mshisto_ray.learning.result_files import measure
from mshisto_ray.learning.target_split import GroupedSplitConfig
from mshisto_ray.learning.targets import TargetConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.fit.trained import hardly_trained, trained_share, undecided_share
from mshisto_ray.mil.head import Head, load_head, write_head
from mshisto_ray.mil.input import bags as sources
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.input.config import InputConfig
from mshisto_ray.mil.predict import predict as predict_bags
from mshisto_ray.mil.trained_head import make_head
from mshisto_ray.store.cache import CacheConfig


def read_bags(
    *,
    target: str | Mapping[str, Any] | None = "label",
    fold_column: str | None = "fold",
    group_column: str | None = None,
    **keys: Any,
) -> Bags:
    """Read bags: embeddings with a cohort, or a bag table.

    Args:
        target: column of the labels, or a mapping with ``column``, ``classes`` (in
            order; of two the second is the positive one) and ``others``, or with
            another ``kind``: the keys of the job ``train``; None: no labels, of bags to
            predict.
        fold_column: column with given folds, used where the table has it.
        group_column: that ``fit`` keeps together in folds with ``split={"group": ..}``.
        **keys: ``embeddings`` and ``cohort``, or ``bags``; ``scale`` or ``scales``,
            ``unit``, ``columns``: the keys of the job ``train``.

    Returns:
        B bags: ``names``, ``patient_ids``, ``sizes`` int64 [B] (0: without a tile),
        ``targets`` int64 [B], an index into ``classes``; ``bag(i)`` has ``values``, an
        array [N, D] per scale, the coarsest first, and ``parents``, int64 [N] for each
        finer scale; ``take([0, 3])`` selects bags. Vectors stay in a memory-mapped
        cache (in the folder for temporary files) until they are read. ``notes`` says
        what was left out.

    Raises:
        InputError: the input cannot be used; one line per problem.
    """
    config = configs.validate(InputConfig, configs.set_keys({}, keys))
    raw = {"column": target} if isinstance(target, str) else target
    wanted = None if raw is None else configs.validate(TargetConfig, raw)
    return sources.read_bags(config, wanted, fold_column, CacheConfig(), group_column)


@dataclass(frozen=True)
class Fitted:
    """A cross-validated model.

    Attributes:
        head: the fold models, for ``predict``.
        predictions: a row per bag and repeat, by the model that did not see its
            patient: ``bag, slide_id, patient_id, target, fold, repeat, prob_<class>,
            predicted``, or the columns of another kind of target.
        validation: the same of the bags set aside within the training folds, by which
            configs are chosen; None where none were.
        metrics: ``test_<metric>_mean``, ``_ci_low``, ``_ci_high`` (95 %), and
            ``val_...``; ``trained_share`` of the fold models; ``undecided_share`` of
            the predictions.
        notes: bags that were left out; models that learned hardly anything.
    """

    head: Head
    predictions: pd.DataFrame
    validation: pd.DataFrame | None
    metrics: dict[str, float]
    notes: tuple[str, ...]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the head, for ``predict`` and for ``mshisto predict head=PATH``.

        ``path``: a folder; a head that is there is replaced.
        """
        folder = Path(path).expanduser().absolute()
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_head(folder, self.head)
        return folder


def fit(
    bags: Bags,
    *,
    split: Mapping[str, Any] | None = None,
    refit: bool = False,
    **keys: Any,
) -> Fitted:
    """Cross-validate a multiple-instance-learning model, as the job ``train`` does.

    Args:
        bags: of ``read_bags``, with a target.
        split: ``folds``, ``repeats``, ``validation``, ``seed``; None: the defaults.
            Patients are kept together; given folds are used where bags have them.
        refit: train one more model on all bags, for new patients.
        **keys: ``pooling={"name": "gated_attention"}``, ``hidden``, ``epochs``, ...:
            the keys of the job ``train``. Inner keys as a mapping, or dotted:
            ``**{"optimiser.lr": 1e-3}``.

    Returns:
        The models with their out-of-fold predictions and metrics; the same numbers as
        those of the job, on the same kind of machine.

    Raises:
        InputError: a wrong key or value, bags without a target, or folds that cannot
            be drawn.
    """
    config = configs.validate(TrainConfig, configs.set_keys({}, keys))
    folds = configs.validate(GroupedSplitConfig, configs.set_keys({}, split or {}))
    if bags.targets is None:
        raise configs.InputError(
            "fit: the bags have no target: read them with target=COLUMN"
        )
    splits = plan_splits(bags, folds, config)
    result = cross_validate(bags, splits, config, _device(), refit)
    metrics = measure(result.test, result.validation)
    shares = trained_share(result.models, bags.kind), undecided_share(result.test)
    metrics |= {"trained_share": shares[0], "undecided_share": shares[1]}
    return Fitted(
        make_head(result, bags, config, bags.about(folds)),
        _frame(result.test),
        _frame(result.validation) if result.validation else None,
        metrics,
        (*bags.notes, *hardly_trained(*shares, config.optimiser, bags.kind)),
    )


@dataclass(frozen=True)
class Predicted:
    """Predictions of B bags.

    Attributes:
        table: a row per bag: ``bag, slide_id, patient_id, prob_<class>, predicted``
            and ``models``, the number of models averaged. Of a bag without a tile
            probabilities and ``predicted`` are missing and ``models`` is 0.
        attention: float64 [N] of the tiles of each bag, by its name, in the order of
            ``Bags.bag`` (of one scale: of ``read_embeddings``); None where the pooling
            has none.
    """

    table: pd.DataFrame
    attention: dict[str, np.ndarray] | None


def predict(head: Fitted | Head | str | os.PathLike[str], bags: Bags) -> Predicted:
    """Predict bags with trained models.

    A bag of a patient that took part in training is predicted by the models that did
    not see that patient; any other by the mean of all models, or by the refit.

    Args:
        head: of ``fit``, or the folder of a saved head (``sweep/best``,
            ``result/head``).
        bags: of ``read_bags``, of the encoder and scales that the head was trained on;
            targets are not looked at.

    Raises:
        InputError: no head, or one of another encoder, width or scale; or every model
            has seen a bag's patient.
    """
    found = head.head if isinstance(head, Fitted) else head
    if not isinstance(found, Head):
        found = load_head(Path(found).expanduser())
    models = np.zeros(len(bags), np.int64)
    attention = None
    table = pd.DataFrame(
        {
            "bag": bags.names,
            "slide_id": bags.slide_ids,
            "patient_id": bags.patient_ids,
        }
    )
    held = np.flatnonzero(bags.sizes)
    if len(held):
        made = predict_bags(found, bags.take(held), _device())
        models[held] = made.models
        columns = found.kind.value_columns(made.probabilities, found.classes)
        values = pa.table(columns).to_pandas().set_index(held)
        table = table.join(values)  # a bag without a tile has none
        if made.attention is not None:
            parts = np.split(made.attention, made.offsets[1:-1])
            each = zip(held, parts, strict=True)
            attention = {bags.names[i]: part for i, part in each}
    return Predicted(table.assign(models=models), attention)


def _frame(predictions: Predictions) -> pd.DataFrame:
    return as_table(predictions).to_pandas()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
