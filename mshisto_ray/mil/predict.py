"""Prediction of bags by a saved head."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.mil.bags import Bags
from mshisto_ray.mil.batches import Batches
from mshisto_ray.mil.head import Head, HeadModel
from mshisto_ray.mil.poolings._pooling import Pooled


@dataclass(frozen=True)
class HeadPrediction:
    """What a head says of B bags with N instances.

    ``probabilities``: [B, C]; ``attention`` [N] and ``instance_probabilities``
    [N, C], None where the pooling has none; ``offsets``: int64 [B + 1]; ``models``:
    how many models were averaged, int [B]. All means over the same models, which are
    in float64.
    """

    probabilities: np.ndarray
    attention: np.ndarray | None
    instance_probabilities: np.ndarray | None
    offsets: np.ndarray
    models: np.ndarray


@dataclass
class _Sums:
    """Sums over models, float64; None until a model gives one."""

    bags: np.ndarray
    attention: np.ndarray | None = field(default=None)
    instances: np.ndarray | None = field(default=None)

    def add(self, out: Pooled, bags: np.ndarray, rows: np.ndarray, num: int) -> None:
        """Add what a model says of bags and of their rows among ``num``."""
        self.bags[bags] += out.log_probabilities.double().exp().cpu().numpy()
        if out.attention is not None:
            if self.attention is None:
                self.attention = np.zeros(num)
            self.attention[rows] += out.attention.double().cpu().numpy()
        if out.instance_probabilities is not None:
            if self.instances is None:
                self.instances = np.zeros((num, self.bags.shape[1]))
            self.instances[rows] += out.instance_probabilities.double().cpu().numpy()


def predict(head: Head, bags: Bags, device: torch.device) -> HeadPrediction:
    """Predictions of bags, averaged over the models that may predict them.

    A bag of a patient that took part in training is predicted by the models that
    were trained and chosen without that patient; any other bag by the refit, or
    where there is none by all models.

    Raises:
        InputError: bags of another encoder, width or scale, or without instances.
    """
    _check_bags(head, bags)
    offsets = np.concatenate([[0], bags.sizes.cumsum()]).astype(np.int64)
    sums = _Sums(np.zeros((len(bags), len(head.classes))))
    models = np.zeros(len(bags), dtype=np.int64)
    for model, index in zip(head.models, _bags_by_model(head, bags), strict=True):
        models[index] += 1
        _add_model(model, bags, index, offsets, sums, device)
    each = models.repeat(bags.sizes)
    return HeadPrediction(
        sums.bags / models[:, None],
        None if sums.attention is None else sums.attention / each,
        None if sums.instances is None else sums.instances / each[:, None],
        offsets,
        models,
    )


def _add_model(
    model: HeadModel,
    bags: Bags,
    index: np.ndarray,
    offsets: np.ndarray,
    sums: _Sums,
    device: torch.device,
) -> None:
    module = model.model.to(device).eval()
    batches = Batches(bags, model.standardisation, device)
    starts = offsets.tolist()
    for run in batches.in_order(index):
        with torch.inference_mode():
            out = module(*batches.get(run))
        rows = [np.arange(starts[bag], starts[bag + 1]) for bag in run]
        sums.add(out, run, np.concatenate(rows), starts[-1])
    module.cpu()


def _bags_by_model(head: Head, bags: Bags) -> list[np.ndarray]:
    """For each model, the bags that it predicts."""
    found: list[list[int]] = [[] for _ in head.models]
    has_refit = any(model.fold is None for model in head.models)
    for bag, patient in enumerate(bags.patient_ids):
        seen = head.folds.get(patient)
        for place, model in enumerate(head.models):
            if model.fold is None:
                allowed = seen is None
            elif seen is None:
                allowed = not has_refit
            else:
                assert model.repeat is not None
                allowed = seen[model.repeat] == model.fold
            if allowed:
                found[place].append(bag)
    return [np.array(index, dtype=np.int64) for index in found]


def _check_bags(head: Head, bags: Bags) -> None:
    if bags.encoder != head.encoder:
        raise InputError(
            f"the head takes embeddings of encoder {head.encoder}, these are of "
            f"{bags.encoder}: give embeddings of the same encoder"
        )
    if bags.features.dim != head.dim:
        raise InputError(
            f"the head takes embeddings of width {head.dim}, these have width "
            f"{bags.features.dim}"
        )
    if bags.scale != head.scale:
        raise InputError(
            f"the head was trained at scale {head.scale}, these bags are at "
            f"{bags.scale}: give scale={head.scale}"
        )
    empty = [
        name for name, size in zip(bags.names, bags.sizes, strict=True) if not size
    ]
    if empty:
        raise InputError(
            f"{len(empty)} bags without instances cannot be predicted "
            f"({', '.join(empty[:3])}); leave them out and report them"
        )
