"""A study of small images in bags: an instance network and frozen features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from mshisto_ray import components
from mshisto_ray import config as configs
from mshisto_ray.components import Part
from mshisto_ray.drawing.instance_map import draw_instances
from mshisto_ray.encoders import Encoder, colour_stats
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import cross_validate
from mshisto_ray.mil.fit.splits import plan_splits
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.store.features import ArrayFeatures
from mshisto_ray.studies import _image_bags, _study
from mshisto_ray.studies._image_bags import ImageBags, ImageModel
from mshisto_ray.studies._image_table import (
    ImageTable,
    Protocol,
    TableNotes,
    frozen_name,
    unit_name,
)
from mshisto_ray.studies._study import StudyUnit, UnitResult

ENCODERS = "mshisto_ray.encoders"
# Images per call of a frozen encoder, and its names in the table.
_IMAGES_AT_ONCE = 256
# Test bags of the first fold whose attention is drawn.
_PICTURES = 3
KINDS = {"colour": "colour statistics", "frozen": "frozen features"}
# Poolings that are tried on frozen features.
_FROZEN = (
    "attention", "clam", "dsmil", "embedding_max", "embedding_mean", "gated_attention",
    "generalised_mean", "instance_max", "instance_mean", "log_sum_exp", "noisy_and",
    "noisy_or", "top_k", "transformer",
)  # fmt: skip


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


class ImageStudy:
    """Frozen features with every pooling; then the network, a unit per fold."""

    def __init__(
        self,
        data: ImageSet,
        network: Callable[[], nn.Module],
        poolings: Sequence[str],
        protocol: Protocol,
        encoder: Part | None,
        page: TableNotes,
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
                frozen_name(kind, name),
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
                unit_name(name, split),
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
        pictures = self._draw(model, split) if split.fold == split.repeat == 0 else {}
        return UnitResult(predictions, extras, device=name, pictures=pictures)

    def _draw(self, model: ImageModel, split: Split) -> dict[str, Image.Image]:
        """Where attention looks in the first positive test bags."""
        bags, found = self._data.bags, {}
        for bag in split.test[bags.targets[split.test] == 1][:_PICTURES].tolist():
            scores = _image_bags.attention(model, bags, bag)
            if scores is not None:
                rows = slice(bags.offsets[bag], bags.offsets[bag + 1])
                name = self._data.names[bag]
                parts = bags.images[rows], scores, bags.instance[rows]
                found[name] = draw_instances(*parts, name)
        return found

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
        """See ``ImageTable.text``."""
        table = ImageTable(
            self._page,
            self._protocol,
            len(self._data.names),
            {
                name: [unit_name(name, split) for split in self._splits]
                for name in self._poolings
            },
            {
                f"{name}, {KINDS[kind]}": frozen_name(kind, name)
                for kind in self._encoders
                for name in _FROZEN
            },
        )
        return table.text(done)


def _frozen_training(pooling: str) -> dict[str, Any]:
    return {
        "pooling": {"name": pooling},
        "hidden": [64],
        "dropout": 0.25,
        "optimiser": {"lr": 1e-3, "weight_decay": 1e-4},
        "epochs": 30,
        "early_stopping": None,
    }
