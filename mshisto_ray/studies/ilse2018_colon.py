"""Ilse 2018, colon cancer: which H&E images hold epithelial nuclei."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Part
from mshisto_ray.config import InputError
from mshisto_ray.encoders import Encoder, colour_stats
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate, plan_splits
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import POOLINGS
from mshisto_ray.statistics.bootstrap import Interval
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.studies import _image_bags, _study
from mshisto_ray.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.studies._study import StudyUnit, UnitResult

ENCODERS = "mshisto_ray.encoders"
_FOLDS = 10
_CLASSES = ("no epithelium", "epithelium")
# From memory of the paper's appendix, as are the network's sizes: not confirmed.
_TRAINING = ImageTraining(lr=1e-4, weight_decay=5e-4, epochs=100, flips=True)
# Images per call of a frozen encoder, and its names in the table.
_IMAGES_AT_ONCE = 256
_KINDS = {"colour": "colour statistics", "frozen": "frozen features"}
# Poolings that are tried on frozen features.
_FROZEN = (
    "attention", "clam", "dsmil", "embedding_max", "embedding_mean", "gated_attention",
    "generalised_mean", "instance_max", "instance_mean", "log_sum_exp", "noisy_and",
    "noisy_or", "top_k", "transformer",
)  # fmt: skip
_METRICS = ("accuracy", "precision", "recall", "f1", "auroc")
_PUBLISHED = {
    "instance_max": (".842 +- .021", ".866 +- .017", ".816 +- .031", ".839 +- .023",
                     ".914 +- .010"),
    "instance_mean": (".772 +- .012", ".821 +- .011", ".710 +- .031", ".759 +- .017",
                      ".866 +- .008"),
    "embedding_max": (".824 +- .015", ".884 +- .014", ".753 +- .020", ".813 +- .017",
                      ".918 +- .010"),
    "embedding_mean": (".860 +- .014", ".911 +- .011", ".804 +- .027", ".853 +- .016",
                       ".940 +- .010"),
    "attention": (".904 +- .011", ".953 +- .014", ".855 +- .017", ".901 +- .011",
                  ".968 +- .009"),
    "gated_attention": (".898 +- .020", ".944 +- .016", ".851 +- .035",
                        ".893 +- .022", ".968 +- .010"),
}  # fmt: skip


class NucleusNet(nn.Sequential):
    """The paper's instance network for 27 x 27 nuclei."""

    width = 512

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 36, 4), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(36, 48, 3), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(48 * 5 * 5, 512), nn.ReLU(), nn.Dropout(),
            nn.Linear(512, self.width), nn.ReLU(), nn.Dropout(),
        )  # fmt: skip


class ColonStudy:
    """Frozen features with every pooling; then the network, one unit per fold."""

    def __init__(
        self, data: Path, poolings: Sequence[str], epochs: int, encoder: Part | None
    ):
        file = data / "colon_bags27.npz"
        if not file.is_file():
            raise InputError(f"data: no colon_bags27.npz in {data}")
        self._file, content = file, np.load(file)
        self._names = tuple(content["name"].tolist())
        self._bags = ImageBags(
            content["patches"], content["inst_label"], content["offsets"],
            content["label"].astype(np.int64),
        )  # fmt: skip
        self._poolings = tuple(poolings)
        self._training = dataclasses.replace(_TRAINING, epochs=epochs)
        self._splits = self._plan()
        self._encoders: dict[str, Encoder] = {}
        self._embedded: dict[str, Bags] = {}
        self._encoders["colour"] = colour_stats.build("cpu", "float32")
        if encoder:
            made = components.build(ENCODERS, encoder, "cpu", "float32")
            self._encoders["frozen"] = made

    def units(self) -> list[StudyUnit]:
        """Units of frozen features first: they take minutes, the network hours."""
        data = {"data": _study.fingerprint(self._file), "folds": _FOLDS}
        training = {"training": dataclasses.asdict(self._training)}
        network = {"network": [str(layer) for layer in NucleusNet()]}
        frozen = [
            StudyUnit(
                f"{kind}-{name}",
                {
                    "training": _frozen_training(name),
                    "encoder": self._encoders[kind].digest,
                    **data,
                },
                functools.partial(self._run_frozen, kind, name),
            )
            for kind in self._encoders
            for name in _FROZEN
        ]
        trained = [
            StudyUnit(
                f"network-{name}-{fold}",
                {"pooling": name, "fold": fold, **network, **training, **data},
                functools.partial(self._run, name, fold),
            )
            for fold in range(_FOLDS)
            for name in self._poolings
        ]
        return frozen + trained

    def _run(self, pooling: str, fold: int) -> UnitResult:
        split = self._splits[fold]
        device, name = _study.fast_device()
        model = _image_bags.fit(
            NucleusNet, pooling, self._bags, split.train, self._training, fold, device
        )
        found, area = _image_bags.predict(model, self._bags, split.test)
        predictions, extras = self._predictions(split, found), {"attention_auroc": area}
        return UnitResult(predictions, extras, device=name)

    def _run_frozen(self, kind: str, pooling: str) -> UnitResult:
        """All folds of one pooling on features that are not trained."""
        raw = _study.constant_rate(_frozen_training(pooling))
        config = configs.validate(TrainConfig, raw)
        if kind not in self._embedded:
            encoder, images = self._encoders[kind], self._bags.images
            starts = range(0, len(images), _IMAGES_AT_ONCE)
            values = [encoder(images[i : i + _IMAGES_AT_ONCE]) for i in starts]
            self._embedded[kind] = self._as_bags(np.concatenate(values))
        bags = self._embedded[kind]
        result = cross_validate(bags, self._splits, config, torch.device("cpu"))
        return UnitResult(result.test, {})

    def _plan(self) -> list[Split]:
        width = np.zeros((len(self._bags.images), 1), np.float32)
        config = SplitConfig(folds=_FOLDS, validation=0)
        return plan_splits(self._as_bags(width), config, None)

    def _as_bags(self, values: np.ndarray) -> Bags:
        num, offsets = len(self._names), self._bags.offsets
        return Bags(
            features=ArrayFeatures(self._names, values, offsets),
            names=self._names,
            members=tuple((i,) for i in range(num)),
            slide_ids=(None,) * num,
            patient_ids=self._names,
            targets=self._bags.targets,
            classes=_CLASSES,
            folds=None,
            sizes=np.diff(offsets),
            digest="colon",
            encoder=None,
            scale=None,
            notes=(),
        )

    def _predictions(self, split: Split, found: np.ndarray) -> Predictions:
        names = np.array(self._names, dtype=object)[split.test]
        num = len(names)
        return Predictions(
            _CLASSES, names, np.full(num, None, dtype=object), names,
            self._bags.targets[split.test], np.full(num, split.fold),
            np.zeros(num, np.int64), found,
        )  # fmt: skip

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """The paper's columns; rows: network, its published values, frozen features."""
        rows = []
        for name in self._poolings:
            keys = [f"network-{name}-{fold}" for fold in range(_FOLDS)]
            found = [done[key] for key in keys if key in done]
            note = "" if len(found) == _FOLDS else f" [{len(found)} folds]"
            areas = [unit.extras["attention_auroc"] for unit in found]
            known = [area for area in areas if area == area]
            rows.append([f"{name}{note}", *_cells(found), _study.mean(known)])
        for name, values in _PUBLISHED.items():
            rows.append([f"{name}, published", *values, "", ""])
        for kind in self._encoders:
            for name in _FROZEN:
                found = [done[key] for key in (f"{kind}-{name}",) if key in done]
                rows.append([f"{name}, {_KINDS[kind]}", *_cells(found), ""])
        header = ["", *_METRICS, "auroc by fold", "attention against epithelium"]
        caption = (
            "100 images, one ten-fold repeat, 95 % score intervals over images, folds "
            "by image (the data do not tell patients). Network: "
            f"Adam, lr 1e-4, weight decay 5e-4, {self._training.epochs} epochs, flips "
            "and quarter turns, one bag a step, the last epoch scored. Colour "
            "statistics (mean, deviation and quantiles per channel) and other frozen "
            "features: a ReLU layer of 64, Adam, lr 1e-3, weight decay 1e-4, 30 "
            "epochs. Nothing was selected. Metrics: all folds' predictions pooled; by "
            "fold: mean over folds +- its standard error, as is attention against "
            "epithelium, a fold's mean AUROC within images that hold both kinds of "
            "nuclei. Published: mean +- standard error over five repeats.\n"
        )
        return "\n".join([_study.markdown(header, rows), caption])


def _frozen_training(pooling: str) -> dict[str, Any]:
    return {
        "pooling": {"name": pooling},
        "hidden": [64],
        "dropout": 0.25,
        "optimiser": {"lr": 1e-3, "weight_decay": 1e-4},
        "epochs": 30,
        "early_stopping": None,
    }


def _cells(found: Sequence[UnitResult]) -> list[str]:
    """Pooled out-of-fold predictions with intervals; AUROC by fold."""
    if not found:
        return [""] * (len(_METRICS) + 1)
    metrics: Mapping[str, Interval] = _study.measure(found)
    cells = [_study.cell(metrics[name]) for name in _METRICS]
    return [*cells, _study.mean(_study.fold_aurocs(found))]


def build(
    data: Path,
    *,
    poolings: tuple[str, ...] = ("attention", "gated_attention", "embedding_mean"),
    epochs: Annotated[int, Field(ge=1)] = _TRAINING.epochs,
    encoder: Part | None = None,
) -> _study.Study:
    """``poolings``: those with the network; ``epochs``: of its training.

    ``encoder``: gives frozen features for all poolings, beside colour statistics.
    """
    # A part within a part comes as plain data.
    part = Part.model_validate(encoder) if encoder else None
    if part:
        part = _study.check_part(ENCODERS, part, "study.encoder")
    for name in poolings:
        _study.check_part(POOLINGS, Part(name=name), "study.poolings")
    return ColonStudy(data, poolings, epochs, part)
