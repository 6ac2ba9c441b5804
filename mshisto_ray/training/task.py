"""The definition of a training: its model, loss, batches and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from mshisto_ray.config import InputError
from mshisto_ray.encoders import read_transform
from mshisto_ray.training.config import TrainingConfig
from mshisto_ray.training.feeding import MakeSource
from mshisto_ray.training.model import (
    ContrastiveModel,
    ModelConfig,
    build_model,
    check_micro_batch,
)
from mshisto_ray.training.step import Stepper
from mshisto_ray.training.tile_index import TileIndex
from mshisto_ray.training.window import Monitor


@dataclass(frozen=True)
class Trained:
    """The best encoder's directory, its metrics, and those of all validations.

    ``history``: one record per validation, the first before any step, of the initial
    weights.
    """

    encoder: Path
    metrics: dict[str, float]
    history: list[dict[str, float]]


@dataclass(frozen=True)
class TrainingTask:
    """The definition of a training.

    Attributes:
        name: name of its job, for messages.
        model: the network and its head.
        loss: of the joint batch's projections and targets.
        index: tiles that are trained on.
        make_source: makes the source of batches of a block.
        together: images of a batch that must be on the same worker.
        monitor: computes the metrics of a training batch.
        validate: computes metrics on held-out patients every ``every`` steps; None:
            no validation, and the last encoder is kept.
        every: steps.
        best: metric that selects the encoder to keep.
        judge: warns, or ends the training with InputError, from metrics and step.
    """

    name: str
    model: ModelConfig
    loss: nn.Module
    index: TileIndex
    make_source: MakeSource
    together: Literal[1, 2]
    monitor: Monitor
    validate: Callable[[Stepper, nn.Module], dict[str, float]] | None
    every: int
    best: str
    judge: Callable[[dict[str, float], int], None]


def make_model(
    config: TrainingConfig, model: ModelConfig, tile_px: int
) -> ContrastiveModel:
    """Build the model with its initial weights, checked against the training config.

    Raises:
        InputError: see ``build_model`` and ``check_micro_batch``; the initial encoder
            was trained with another input normalisation.
    """
    start = Path(model.weights).expanduser()
    if start.is_dir():
        known = read_transform(start)
        if (known.mean, known.std) != (config.mean, config.std):
            raise InputError(
                f"mean, std: the encoder in {start} was trained with others: give "
                f"mean={list(known.mean)} std={list(known.std)}"
            )
    made = build_model(model, tile_px, config.seed)
    check_micro_batch(made, config.run.micro_batch)
    return made
