"""What a fold model is trained on, and what training makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mshisto_ray.learning.targets import FittedTarget
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.model import MILModel
from mshisto_ray.representation.normalise import Standardisation


@dataclass(frozen=True)
class FoldTask:
    """One model to train.

    Attributes:
        standardisation: fitted on the training bags.
        train: indices of bags to learn from; they have targets and instances.
        validation: indices of bags for early stopping; used for nothing else, and
            ignored without early stopping.
        stream: (repeat, fold): with ``config.seed`` decides all randomness.
        num_steps: of a whole training, over which the learning rate falls; the same
            for all models of a cross-validation.
    """

    standardisation: Standardisation
    train: np.ndarray
    validation: np.ndarray
    stream: tuple[int, ...]
    num_steps: int


def count_steps(num_bags: int, config: TrainConfig, whole_fold: bool = False) -> int:
    """Steps of a whole training on a number of bags; ``whole_fold``: one an epoch."""
    if whole_fold:
        return config.epochs
    draws = num_bags * (config.vote.bags if config.vote else 1)
    return config.epochs * -(-draws // config.batch_size)


@dataclass(frozen=True)
class FoldModel:
    """A trained model with the normalisation that its inputs need.

    Attributes:
        model: with the weights that were kept.
        standardisation: of its inputs.
        epochs: those trained up to its weights.
        history: per epoch ``loss`` (mean training loss), ``bag_loss`` (its part of the
            bags alone, without what a pooling adds) and, with validation bags,
            ``val_loss`` and ``val_<metric>``, the one that chooses.
        chance: loss of the best constant prediction of the training bags.
        fitted: the target as the model has it.
    """

    model: MILModel
    standardisation: Standardisation
    epochs: int
    history: tuple[dict[str, float], ...]
    chance: float
    fitted: FittedTarget

    @property
    def loss(self) -> float:
        """Training loss of the bags in the epoch whose weights were kept."""
        return self.history[self.epochs - 1]["bag_loss"]


class Seeds(NamedTuple):
    """Seeds of a model's order of bags, its noise, and its weights and dropout."""

    order: int
    noise: int
    torch: int


def seeds_of(seed: int, stream: tuple[int, ...]) -> Seeds:
    """The seeds of the model of ``stream``."""
    words = np.random.SeedSequence([seed, *stream]).generate_state(3, np.uint64)
    return Seeds(int(words[0]), int(words[1] >> 1), int(words[2] >> 1))
