"""Prediction of bags by a saved head."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.scoring import predict_values
from mshisto_ray.mil.head import Head, HeadModel
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import outputs_of
from mshisto_ray.mil.poolings import (
    Pooled,
)


@dataclass(frozen=True)
class HeadPrediction:
    """Predictions of a head for B bags with N instances.

    ``probabilities``: [B, C], of the vote where random bags vote, or the values [B, V]
    of a target that is not classes; ``calibrated``: of classes the same after the
    head's calibration of each model, None where it has none; for whole bags:
    ``attention`` [N], ``class_attention`` and ``instance_probabilities`` [N, C], None
    where the pooling has none, ``calibrated_instances`` [N, C], as ``calibrated``, of a
    head of tiles, and ``child_attention``, for each finer scale [M], its
    tiles slide by slide and parent by parent; ``offsets``: int64 [B + 1]; ``models``:
    number of models averaged, int [B]. All are float64 means over the same models.
    """

    probabilities: np.ndarray
    calibrated: np.ndarray | None
    attention: np.ndarray | None
    class_attention: np.ndarray | None
    instance_probabilities: np.ndarray | None
    child_attention: tuple[np.ndarray, ...]
    offsets: np.ndarray
    models: np.ndarray
    calibrated_instances: np.ndarray | None = None


@dataclass
class _Sums:
    """Sums over models, float64, by name; ``sizes``: rows of every bag, by name."""

    sizes: dict[str, np.ndarray]
    found: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, out: Pooled, bags: np.ndarray) -> None:
        """Add a model's scores of the instances of bags."""
        parts = {
            "attention": out.attention,
            "class_attention": out.class_attention,
            "instance_probabilities": out.instance_probabilities,
        }
        parts |= {f"finer{i}": part for i, part in enumerate(out.child_attention)}
        for name, value in parts.items():
            if value is not None:
                self.put(name, value.double().cpu().numpy(), bags)

    def put(self, name: str, values: np.ndarray, bags: np.ndarray) -> None:
        """Add values to the bags' rows of the sum of this name."""
        offsets = self.offsets(name)
        if name not in self.found:
            self.found[name] = np.zeros((offsets[-1], *values.shape[1:]))
        starts, sizes = offsets[bags], offsets[bags + 1] - offsets[bags]
        shift = np.repeat(starts - (sizes.cumsum() - sizes), sizes)
        self.found[name][np.arange(sizes.sum()) + shift] += values

    def offsets(self, name: str) -> np.ndarray:
        """Where the rows of each bag begin, int64 [B + 1]."""
        sizes = self.sizes.get(name, self.sizes["instances"])
        return np.concatenate([[0], sizes.cumsum()]).astype(np.int64)

    def mean(self, name: str, models: np.ndarray) -> np.ndarray | None:
        """The sums divided by each bag's number of models; None without sums."""
        if name not in self.found:
            return None
        total = self.found[name]
        each = models.repeat(self.sizes.get(name, self.sizes["instances"]))
        return total / each.reshape(-1, *[1] * (total.ndim - 1))


def predict(head: Head, bags: Bags, device: torch.device) -> HeadPrediction:
    """Predictions of bags, averaged over the models that may predict them.

    A bag of a patient that took part in training is predicted by the models that
    were trained and chosen without that patient; any other bag by the refit, or
    where there is none by all models.

    Raises:
        InputError: bags of another encoder, width or scale, without instances, or of
            patients that every model has seen.
    """
    _check_bags(head, bags)
    ones = np.ones(len(bags), np.int64)
    sizes = {"bags": ones, "calibrated": ones, "instances": bags.sizes}
    for i, scale in enumerate(bags.finer):
        counts = [[len(scale.children[m].rows) for m in b] for b in bags.members]
        sizes[f"finer{i}"] = np.array([sum(c) for c in counts], np.int64)
    sums = _Sums(sizes)
    models = np.zeros(len(bags), dtype=np.int64)
    for model, index in zip(head.models, _bags_by_model(head, bags), strict=True):
        if len(index):
            models[index] += 1
            _add_model(model, head, bags, index, sums, device)
    probabilities = sums.mean("bags", models)
    assert probabilities is not None
    finer = [sums.mean(f"finer{i}", models) for i in range(len(bags.finer))]
    return HeadPrediction(
        probabilities,
        sums.mean("calibrated", models),
        sums.mean("attention", models),
        sums.mean("class_attention", models),
        sums.mean("instance_probabilities", models),
        tuple(part for part in finer if part is not None),
        sums.offsets("instances"),
        models,
        sums.mean("calibrated_instances", models),
    )


def _add_model(
    model: HeadModel,
    head: Head,
    bags: Bags,
    index: np.ndarray,
    sums: _Sums,
    device: torch.device,
) -> None:
    module = model.model.to(device).eval()
    batches = Batches(bags, model.standardisation, device)
    for draws in batches.in_order(index):
        with torch.inference_mode():
            out = module(*batches.draws(draws))
        sums.add(out, draws[:, 0])
        if head.of_tiles and head.of_tiles.rules.calibration:
            assert out.instance_probabilities is not None
            given = out.instance_probabilities.double().cpu().numpy()
            calibrated = head.of_tiles.rules.calibrated(given)
            sums.put("calibrated_instances", calibrated, draws[:, 0])
        if head.vote is None:
            outputs = outputs_of(out, head.kind).double().cpu()
            _put(sums, head, model.fitted.link(outputs), draws[:, 0])
    if head.vote is not None:
        random_bags = Batches(bags, model.standardisation, device, head.vote)
        given = module, random_bags, index, head.kind, model.fitted
        _put(sums, head, predict_values(*given), index)
    module.cpu()


def _put(sums: _Sums, head: Head, values: np.ndarray, bags: np.ndarray) -> None:
    """Add a model's values of bags, and what its calibration makes of them.

    The calibration was fitted on predictions of single models: a mean of several is
    less certain than they are.
    """
    sums.put("bags", values, bags)
    if head.decision and head.decision.rules.calibration:
        sums.put("calibrated", head.decision.rules.calibrated(values), bags)


def _bags_by_model(head: Head, bags: Bags) -> list[np.ndarray]:
    """Indices of the bags that each model predicts."""
    found: list[list[int]] = [[] for _ in head.models]
    for bag, patient in enumerate(bags.patient_ids):
        for place in head.models_for(patient):
            found[place].append(bag)
    return [np.array(index, dtype=np.int64) for index in found]


def _check_bags(head: Head, bags: Bags) -> None:
    if bags.encoder != head.encoder:
        raise InputError(
            f"the head takes embeddings of encoder {head.encoder}, these are of "
            f"{bags.encoder}: give embeddings of the same encoder"
        )
    if bags.scales != head.scales:
        raise InputError(
            f"the head combines scales {head.scales}, these bags have {bags.scales}"
        )
    if bags.dims != head.dims:
        raise InputError(
            f"the head takes embeddings of width {_words(head.dims)}, these have width "
            f"{_words(bags.dims)}"
        )
    if head.tile_px and bags.tile_px and bags.tile_px != head.tile_px:
        raise InputError(
            f"the head was trained on tiles of {_words(head.tile_px)} px, these have "
            f"{_words(bags.tile_px)} px: give embeddings of tiles of the same side"
        )
    if bags.scale != head.scale:
        raise InputError(
            f"the head was trained at scale {head.scale}, these bags are at "
            f"{bags.scale}: give scale={head.scale}"
        )
    seen = sorted({p for p in bags.patient_ids if not head.models_for(p)})
    if seen:
        raise InputError(
            f"every model of the head has seen {len(seen)} patients "
            f"({', '.join(seen[:3])}): it cannot be applied to them"
        )
    empty = [
        name for name, size in zip(bags.names, bags.sizes, strict=True) if not size
    ]
    if empty:
        raise InputError(
            f"{len(empty)} bags without instances cannot be predicted "
            f"({', '.join(empty[:3])}); leave them out and report them"
        )


def _words(dims: tuple[int | None, ...]) -> str:
    return " and ".join(map(str, dims))
