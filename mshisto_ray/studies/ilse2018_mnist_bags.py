"""Ilse 2018, MNIST-bags: a bag is positive if it holds a nine."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from scipy.stats import t
from torch import nn

from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.studies import _image_bags, _study
from mshisto_ray.studies._image_bags import ImageBags, ImageTraining
from mshisto_ray.studies._study import StudyUnit, UnitResult

_TARGET = 9
_TEST_BAGS = 500
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


# A linear model of the mean of a bag's pixels.
_FLOOR = "floor"


class MnistBagsStudy:
    """A unit is a pooling, a number of training bags and a seed."""

    def __init__(
        self,
        data: Path,
        poolings: Sequence[str],
        num_bags: Sequence[int],
        seeds: int,
        mean_size: float,
    ):
        file = data / "mnist.npz"
        if not file.is_file():
            raise InputError(f"data: no mnist.npz in {data}")
        self._file, self._poolings, self._num_bags = file, poolings, num_bags
        self._seeds, self._mean_size = seeds, mean_size

    def units(self) -> list[StudyUnit]:
        """All units, seed by seed."""
        common = {
            "mean_size": float(self._mean_size),
            "test_bags": _TEST_BAGS,
            "training": _TRAINING.as_recipe(),
            "data": _study.fingerprint(self._file),
        }
        return [
            StudyUnit(
                f"{pooling}-{num}-{seed}",
                {
                    "pooling": pooling,
                    "network": [str(layer) for layer in _network(pooling)()],
                    "num_bags": num,
                    "seed": seed,
                    **common,
                },
                functools.partial(self._run, pooling, num, seed),
            )
            for seed in range(self._seeds)
            for num in self._num_bags
            for pooling in (*self._poolings, _FLOOR)
        ]

    def _run(self, pooling: str, num: int, seed: int) -> UnitResult:
        digits = np.load(self._file)
        rng = np.random.default_rng([seed, 0])
        train = draw_bags(
            digits["train_x"], digits["train_y"], num, self._mean_size, rng
        )
        # The same test bags for every number of training bags.
        rng = np.random.default_rng([seed, 1])
        test = draw_bags(
            digits["test_x"], digits["test_y"], _TEST_BAGS, self._mean_size, rng
        )
        index = np.arange(num)
        cpu = torch.device("cpu")
        network = _network(pooling)
        name = "embedding_mean" if pooling == _FLOOR else pooling
        model = _image_bags.fit(network, name, train, index, _TRAINING, seed, cpu)
        found, area = _image_bags.predict(model, test, np.arange(_TEST_BAGS))
        return UnitResult(_predictions(test, found, seed), {"attention_auroc": area})

    def table(self, done: Mapping[str, UnitResult]) -> str:
        """Test AUROC and attention's AUROC: a row per pooling, a column per size."""
        parts = []
        for title, value in (
            ("test AUROC", lambda unit: _study.measure([unit])["auroc"].value),
            ("attention against nines", lambda unit: unit.extras["attention_auroc"]),
        ):
            rows = []
            for pooling in (*self._poolings, _FLOOR):
                row = [pooling]
                for num in self._num_bags:
                    names = [f"{pooling}-{num}-{seed}" for seed in range(self._seeds)]
                    found = [value(done[name]) for name in names if name in done]
                    # Without attention there is nothing to hold against nines.
                    known = [number for number in found if number == number]
                    row.append(_cell(known, self._seeds))
                if any(row[1:]):
                    rows.append(row)
            header = [title, *(f"{num} training bags" for num in self._num_bags)]
            parts.append(_study.markdown(header, rows))
        caption = (
            f"Mean, 95 % t-interval over seeds (in square brackets how many, where not "
            f"{self._seeds}); bag size N({self._mean_size:g}, 2), half of the bags "
            f"positive, {_TEST_BAGS} test bags; Adam, lr 5e-4, weight decay 1e-4, 20 "
            "epochs, one bag a step, the last epoch scored, nothing selected. "
            "Floor: a linear model of the mean of a bag's pixels. "
            "Attention against nines: mean AUROC within positive bags. The paper shows "
            "this experiment as a figure.\n"
        )
        return "\n".join([*parts, caption])


def _network(pooling: str) -> type[LeNet] | type[Pixels]:
    return Pixels if pooling == _FLOOR else LeNet


def draw_bags(
    images: np.ndarray,
    labels: np.ndarray,
    num: int,
    mean_size: float,
    rng: np.random.Generator,
) -> ImageBags:
    """Bags of random digits, every second one with a nine.

    Sizes are normal around ``mean_size`` with a standard deviation of 2, rounded, at
    least 1. A bag is drawn again until it is of its class, so digits keep their
    shares within a class.
    """
    rows, sizes = [], []
    for bag in range(num):
        while True:
            size = max(1, round(rng.normal(mean_size, 2)))
            chosen = rng.integers(len(labels), size=size)
            if (labels[chosen] == _TARGET).any() == bag % 2:
                break
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


def _cell(found: Sequence[float], wanted: int) -> str:
    if not found:
        return ""
    note = "" if len(found) == wanted else f" [{len(found)}]"
    mean, spread = float(np.mean(found)), ""
    if found[1:]:
        error = float(np.std(found, ddof=1)) / len(found) ** 0.5
        ends = t.interval(0.95, len(found) - 1, mean, error)
        spread = f" ({' to '.join(_study.short(float(end)) for end in ends)})"
    return f"{_study.short(mean)}{spread}{note}"


def build(
    data: Path,
    *,
    poolings: tuple[str, ...] = ("attention", "gated_attention"),
    num_bags: tuple[Annotated[int, Field(ge=2)], ...] = (50, 100, 200),
    seeds: Annotated[int, Field(ge=1)] = 5,
    mean_size: Annotated[float, Field(gt=0, le=50)] = 10,
) -> _study.Study:
    """MNIST-bags; ``mean_size``: of a bag; larger ones hardly ever lack a nine."""
    for name in poolings:
        _study.check_pooling(name)
    return MnistBagsStudy(data, poolings, num_bags, seeds, mean_size)
