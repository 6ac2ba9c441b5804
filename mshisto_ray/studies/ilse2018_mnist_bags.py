"""Ilse 2018, MNIST-bags: a bag is positive if it holds a nine."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn

from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.studies import _image_bags, _study
from mshisto_ray.studies._ilse2018 import PAPER_POOLINGS
from mshisto_ray.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.studies._mnist_bags_table import FLOOR, DigitTable, unit_name
from mshisto_ray.studies._study import StudyUnit, UnitResult

_TARGET = 9
# Standard deviation of the sizes of bags, as a share of their mean.
_SPREAD = 0.2
# Those of the authors' code.
_TRAINING = ImageTraining(lr=5e-4, weight_decay=1e-4, epochs=20, flips=False)


class LeNet(nn.Sequential):
    """The paper's instance network for 28 x 28 digits."""

    width = 500

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(50 * 4 * 4, self.width), nn.ReLU(),
        )  # fmt: skip


class Pixels(nn.Sequential):
    """An instance as its pixels: with their mean, what any network should beat."""

    width = 28 * 28

    def __init__(self):
        super().__init__(nn.Flatten())


class MnistBagsStudy:
    """A unit is a pooling, a mean size of bags, a number of them and a seed."""

    def __init__(
        self,
        data: Path,
        poolings: Sequence[str],
        mean_sizes: Sequence[float],
        num_bags: Sequence[int],
        seeds: int,
        test_bags: int,
    ):
        file = data / "mnist.npz"
        if not file.is_file():
            raise InputError(f"data: no mnist.npz in {data}")
        self._file, self._poolings, self._num_bags = file, poolings, num_bags
        self._sizes, self._seeds, self._test_bags = mean_sizes, seeds, test_bags

    def units(self) -> list[StudyUnit]:
        """All units: size by size, then seed by seed."""
        common = {
            "test_bags": self._test_bags,
            "training": _TRAINING.as_recipe(),
            "data": _study.fingerprint(self._file),
        }
        return [
            StudyUnit(
                unit_name(pooling, size, num, seed),
                {
                    "pooling": pooling,
                    "network": [str(layer) for layer in _network(pooling)()],
                    "mean_size": float(size),
                    "spread": float(size * _SPREAD),
                    "num_bags": num,
                    "seed": seed,
                    **common,
                },
                functools.partial(self._run, pooling, size, num, seed),
            )
            for size in self._sizes
            for seed in range(self._seeds)
            for num in self._num_bags
            for pooling in (*self._poolings, FLOOR)
        ]

    def _run(self, pooling: str, size: float, num: int, seed: int) -> UnitResult:
        digits = np.load(self._file)
        rng = np.random.default_rng([seed, 0])
        train = draw_bags(digits["train_x"], digits["train_y"], num, size, rng)
        # The same test bags for every number of training bags.
        rng = np.random.default_rng([seed, 1])
        test = draw_bags(digits["test_x"], digits["test_y"], self._test_bags, size, rng)
        index = np.arange(num)
        cpu = torch.device("cpu")
        network = _network(pooling)
        name = "embedding_mean" if pooling == FLOOR else pooling
        model = _image_bags.fit(network, name, train, index, _TRAINING, seed, cpu)
        found, area = _image_bags.predict(model, test, np.arange(self._test_bags))
        return UnitResult(_predictions(test, found, seed), {"attention_auroc": area})

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """See ``DigitTable.text``."""
        poolings = (*self._poolings, FLOOR)
        seeds, num = self._seeds, self._test_bags
        table = DigitTable(self._sizes, self._num_bags, poolings, seeds, num)
        return table.text(done)


def _network(pooling: str) -> type[LeNet] | type[Pixels]:
    return Pixels if pooling == FLOOR else LeNet


def draw_bags(
    images: np.ndarray,
    labels: np.ndarray,
    num: int,
    mean_size: float,
    rng: np.random.Generator,
) -> ImageBags:
    """Bags of random digits, every second one with a nine.

    Sizes are normal around ``mean_size`` with a standard deviation of a fifth of it,
    rounded, at least 1. A size is drawn before the class, so that it tells nothing of
    it; then digits are drawn again until the bag is of its class. (Of a bag without a
    nine that is the same as drawing from the other digits.)
    """
    others = np.flatnonzero(labels != _TARGET)
    rows, sizes = [], []
    for bag in range(num):
        size = max(1, round(rng.normal(mean_size, mean_size * _SPREAD)))
        chosen = others[rng.integers(len(others), size=size)]
        while bag % 2 and not (labels[chosen] == _TARGET).any():
            chosen = rng.integers(len(labels), size=size)
        rows.append(chosen)
        sizes.append(size)
    index = np.concatenate(rows)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    targets = np.arange(num) % 2
    return ImageBags(
        images[index][..., None], labels[index] == _TARGET, offsets, targets
    )


def _predictions(test: ImageBags, found: np.ndarray, seed: int) -> Predictions:
    names = np.array([f"{seed}-{i}" for i in range(len(found))], dtype=object)
    zeros = np.zeros(len(found), np.int64)
    nothing = np.full(len(found), None, dtype=object)
    return Predictions(
        ("no nine", "nine"), names, nothing, names, test.targets, zeros, zeros, found
    )


def build(
    data: Path,
    *,
    poolings: tuple[str, ...] = PAPER_POOLINGS,
    mean_sizes: tuple[Annotated[float, Field(ge=2, le=1000)], ...] = (10, 50, 100),
    num_bags: tuple[Annotated[int, Field(ge=2)], ...] = (50, 100, 200),
    seeds: Annotated[int, Field(ge=1)] = 5,
    test_bags: Annotated[int, Field(ge=2)] = 1000,
) -> _study.Study:
    """MNIST-bags; ``mean_sizes``: of bags; ``num_bags``: of training bags."""
    for name in poolings:
        _study.check_pooling(name)
    return MnistBagsStudy(data, poolings, mean_sizes, num_bags, seeds, test_bags)
