"""A study of small images in bags: an instance network and frozen features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Part
from mshisto_ray.encoders import Encoder, colour_stats
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.studies import _image_bags, _study
from mshisto_ray.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.studies._study import StudyUnit, UnitResult

ENCODERS = "mshisto_ray.encoders"
# Images per call of a frozen encoder, and its names in the table.
_IMAGES_AT_ONCE = 256
KINDS = {"colour": "colour statistics", "frozen": "frozen features"}
# Poolings that are tried on frozen features.
_FROZEN = (
    "attention", "clam", "dsmil", "embedding_max", "embedding_mean", "gated_attention",
    "generalised_mean", "instance_max", "instance_mean", "log_sum_exp", "noisy_and",
    "noisy_or", "top_k", "transformer",
)  # fmt: skip
_METRICS = ("accuracy", "precision", "recall", "f1", "auroc")


@dataclass(frozen=True)
class ImageSet:
    """Labelled bags of images.

    Attributes:
        names: of the bags.
        patients: of each bag: bags of one are in one fold.
        classes: two, the positive one last.
        bags: their images.
        digest: of all of these.
    """

    names: tuple[str, ...]
    patients: tuple[str, ...]
    classes: tuple[str, str]
    bags: ImageBags
    digest: str


@dataclass(frozen=True)
class Protocol:
    """How models are trained and tested.

    Attributes:
        folds: of the cross-validation.
        repeats: of drawing the folds.
        validation: share of the training bags by whose loss the network's epoch is
            chosen; 0: the last epoch.
        training: of the network.
    """

    folds: int
    repeats: int
    validation: float
    training: ImageTraining


@dataclass(frozen=True)
class Page:
    """What a table says beside its numbers.

    Attributes:
        published: the paper's cells of each pooling: accuracy, precision, recall, F1,
            AUROC.
        data: a phrase on the images and the folds.
        truth: what attention is compared with, if instances have labels.
    """

    published: Mapping[str, Sequence[str]]
    data: str
    truth: str = ""


class ImageStudy:
    """Frozen features with every pooling; then the network, a unit per fold."""

    def __init__(
        self,
        data: ImageSet,
        network: Callable[[], nn.Module],
        poolings: Sequence[str],
        protocol: Protocol,
        encoder: Part | None,
        page: Page,
    ):
        self._data, self._network, self._page = data, network, page
        self._poolings, self._protocol = tuple(poolings), protocol
        self._splits = self._plan(protocol.validation)
        self._embedded: dict[str, Bags] = {}
        self._encoders: dict[str, Encoder] = {}
        self._encoders["colour"] = colour_stats.build("cpu", "float32")
        if encoder:
            made = components.build(ENCODERS, encoder, "cpu", "float32")
            self._encoders["frozen"] = made

    def units(self) -> list[StudyUnit]:
        """Units of frozen features first: they take minutes, the network hours."""
        protocol = self._protocol
        data: dict[str, Any] = {"data": self._data.digest, "folds": protocol.folds}
        repeats = {"repeats": protocol.repeats} if protocol.repeats > 1 else {}
        frozen = [
            StudyUnit(
                f"{kind}-{name}",
                {
                    "training": _frozen_training(name),
                    "encoder": self._encoders[kind].digest,
                    **data,
                    **repeats,
                },
                functools.partial(self._run_frozen, kind, name),
            )
            for kind in self._encoders
            for name in _FROZEN
        ]
        if protocol.validation:
            data["validation"] = protocol.validation
        data["network"] = [str(layer) for layer in self._network().children()]
        data["training"] = protocol.training.as_recipe()
        trained = [
            StudyUnit(
                _unit_name(name, split),
                {
                    "pooling": name,
                    "fold": split.fold,
                    **({"repeat": split.repeat} if split.repeat else {}),
                    **data,
                },
                functools.partial(self._run, name, split),
            )
            for split in self._splits
            for name in self._poolings
        ]
        return frozen + trained

    def _run(self, pooling: str, split: Split) -> UnitResult:
        device, name = _study.fast_device()
        model = _image_bags.fit(
            self._network,
            pooling,
            self._data.bags,
            split.train,
            self._protocol.training,
            split.repeat * self._protocol.folds + split.fold,
            device,
            split.validation if self._protocol.validation else None,
        )
        found, area = _image_bags.predict(model, self._data.bags, split.test)
        predictions, extras = self._predictions(split, found), {"attention_auroc": area}
        return UnitResult(predictions, extras, device=name)

    def _run_frozen(self, kind: str, pooling: str) -> UnitResult:
        """All folds of one pooling on features that are not trained."""
        raw = _study.constant_rate(_frozen_training(pooling))
        config = configs.validate(TrainConfig, raw)
        if kind not in self._embedded:
            encoder, images = self._encoders[kind], self._data.bags.images
            starts = range(0, len(images), _IMAGES_AT_ONCE)
            values = [encoder(images[i : i + _IMAGES_AT_ONCE]) for i in starts]
            self._embedded[kind] = self._as_bags(np.concatenate(values))
        bags = self._embedded[kind]
        result = cross_validate(bags, self._plan(0), config, torch.device("cpu"))
        return UnitResult(result.test, {})

    def _plan(self, validation: float) -> list[Split]:
        width = np.zeros((len(self._data.bags.images), 1), np.float32)
        config = SplitConfig(
            folds=self._protocol.folds,
            repeats=self._protocol.repeats,
            validation=validation,
        )
        return plan_splits(self._as_bags(width), config, None)

    def _as_bags(self, values: np.ndarray) -> Bags:
        names, offsets = self._data.names, self._data.bags.offsets
        num = len(names)
        return Bags(
            features=ArrayFeatures(names, values, offsets),
            names=names,
            members=tuple((i,) for i in range(num)),
            slide_ids=(None,) * num,
            patient_ids=self._data.patients,
            targets=self._data.bags.targets,
            classes=self._data.classes,
            folds=None,
            sizes=np.diff(offsets),
            digest=self._data.digest,
            encoder=None,
            scale=None,
            notes=(),
        )

    def _predictions(self, split: Split, found: np.ndarray) -> Predictions:
        names = np.array(self._data.names, dtype=object)[split.test]
        patients = np.array(self._data.patients, dtype=object)[split.test]
        num = len(names)
        return Predictions(
            self._data.classes, names, np.full(num, None, dtype=object), patients,
            self._data.bags.targets[split.test], np.full(num, split.fold),
            np.full(num, split.repeat), found,
        )  # fmt: skip

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """The paper's columns; rows: network, its published values, frozen features."""
        rows = []
        for name in self._poolings:
            keys = [_unit_name(name, split) for split in self._splits]
            found = [done[key] for key in keys if key in done]
            note = "" if len(found) == len(keys) else f" [{len(found)} folds]"
            areas = [unit.extras["attention_auroc"] for unit in found]
            known = [area for area in areas if area == area]
            rows.append([f"{name}{note}", *self._cells(found), _study.mean(known)])
        for name, values in self._page.published.items():
            rows.append([f"{name}, published", *values, "", ""])
        for kind in self._encoders:
            for name in _FROZEN:
                found = [done[key] for key in (f"{kind}-{name}",) if key in done]
                rows.append([f"{name}, {KINDS[kind]}", *self._cells(found), ""])
        header = ["", *_METRICS, f"auroc by {self._spread}"]
        if self._page.truth:
            header.append(f"attention against {self._page.truth}")
        rows = [row[: len(header)] for row in rows]
        return "\n".join([_study.markdown(header, rows), self._caption()])

    @property
    def _spread(self) -> str:
        """What standard errors are taken over: the paper's are over repeats."""
        return "repeat" if self._protocol.repeats > 1 else "fold"

    def _cells(self, found: Sequence[UnitResult]) -> list[str]:
        """Pooled out-of-fold predictions with intervals; AUROC by fold or repeat."""
        if not found:
            return [""] * (len(_METRICS) + 1)
        metrics: Mapping[str, Interval] = _study.measure(found)
        cells = [_study.cell(metrics[name]) for name in _METRICS]
        return [*cells, _study.mean(_study.aurocs_by(self._spread, found))]

    def _caption(self) -> str:
        protocol, training = self._protocol, self._protocol.training
        repeats = "one" if protocol.repeats == 1 else str(protocol.repeats)
        folds = {10: "ten"}.get(protocol.folds, str(protocol.folds))
        chosen = "the last epoch scored"
        if protocol.validation:
            chosen = (
                f"the epoch of the lowest loss on {protocol.validation:.0%} of the "
                "training bags, set aside"
            )
        colour = f", stain jitter of {training.colour:g}" if training.colour else ""
        plural = "" if protocol.repeats == 1 else "s"
        text = (
            f"{len(self._data.names)} images, {repeats} {folds}-fold repeat{plural}, "
            f"95 % score intervals over {self._page.data}. Network: "
            f"Adam, lr {training.lr:.0e}".replace("e-0", "e-")
            + f", weight decay {training.weight_decay:.0e}".replace("e-0", "e-")
            + f", {training.epochs} epochs, flips "
            f"and quarter turns{colour}, one bag a step, {chosen}. Colour "
            "statistics (mean, deviation and quantiles per channel) and other frozen "
            "features: a ReLU layer of 64, Adam, lr 1e-3, weight decay 1e-4, 30 "
            "epochs. Nothing was selected. Metrics: all folds' predictions pooled; by "
            f"{self._spread}: mean over {self._spread}s +- its standard error"
        )
        if self._page.truth:
            text += (
                f", as is attention against {self._page.truth}, a fold's mean AUROC "
                "within images that hold both kinds of nuclei"
            )
        return f"{text}. Published: mean +- standard error over five repeats.\n"


def _unit_name(pooling: str, split: Split) -> str:
    repeat = f"{split.repeat}-" if split.repeat else ""
    return f"network-{pooling}-{repeat}{split.fold}"


def _frozen_training(pooling: str) -> dict[str, Any]:
    return {
        "pooling": {"name": pooling},
        "hidden": [64],
        "dropout": 0.25,
        "optimiser": {"lr": 1e-3, "weight_decay": 1e-4},
        "epochs": 30,
        "early_stopping": None,
    }
