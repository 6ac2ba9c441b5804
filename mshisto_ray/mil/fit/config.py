"""Configuration of a MIL model and its training."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import model_validator

from mshisto_ray import components
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, option
from mshisto_ray.mil.fit.optimiser import MILOptimiserConfig
from mshisto_ray.mil.fit.vote import EpochTiles, VoteConfig
from mshisto_ray.mil.model import COMBINATIONS, POOLINGS
from mshisto_ray.representation.noises import FAMILY as NOISES
from mshisto_ray.representation.reductions import FAMILY as REDUCTIONS


class EarlyStoppingConfig(Config):
    """When to stop, and which epoch's weights to keep: the best on validation.

    Epochs count whose training loss is below that of a constant prediction, times a
    share (of classes 0.9); where none is, the last epoch's weights are kept.
    """

    metric: str = option(
        "loss",
        "watched on validation bags: loss, or the metric of the target that chooses, "
        "as auroc",
    )
    patience: int = option(10, "epochs without a better value", unit="epochs", ge=1)


class TrainConfig(Config):
    """One MIL model and its training."""

    pooling: Annotated[Part, Family(POOLINGS)] = option(
        Part(name="gated_attention"), "how instances become a prediction"
    )
    combine: Annotated[Part, Family(COMBINATIONS)] = option(
        Part(name="single"), "how a tile and its finer ones become an instance"
    )
    vote: VoteConfig | None = option(
        None, "null: a slide is one bag; else random bags of it, which vote"
    )
    tiles_per_epoch: int | None = option(
        None,
        "at most so many tiles of each bag, drawn anew in every epoch of training; all "
        "are used to predict; null: all",
        unit="tiles",
        ge=1,
    )
    noise: Annotated[Part, Family(NOISES)] = option(
        Part(name="gaussian"), "added to training instances, drawn anew in each step"
    )
    mixup: float = option(
        0.0,
        "alpha: two bags of a step and their classes mixed with a share of Beta(alpha, "
        "alpha); 0: none",
        ge=0,
    )
    clip: float | None = option(
        None,
        "standardised embeddings are cut off at so many standard deviations of the "
        "training fold, as 10; null: at none",
        unit="standard deviations",
        gt=0,
    )
    reduction: Annotated[Part, Family(REDUCTIONS)] = option(
        Part(name="none"), "of standardised embeddings, fitted on the training fold"
    )
    hidden: tuple[Annotated[int, option(ge=1)], ...] = option(
        (256,), "widths of the ReLU layers before the pooling; []: none"
    )
    dropout: float = option(0.25, "share of zeroed inputs of the pooling", ge=0, lt=1)
    optimiser: MILOptimiserConfig = MILOptimiserConfig()
    epochs: int = option(50, "at most, with early stopping", unit="epochs", ge=1)
    batch_size: int = option(1, "bags per step", unit="bags", ge=1)
    draws: Literal["all", "balanced"] = option(
        "all",
        "bags of an epoch: each once, or as many with every class as often as others",
    )
    early_stopping: EarlyStoppingConfig | None = option(
        EarlyStoppingConfig(), "null: all epochs, and the last one's weights"
    )
    seed: int = option(0, "initial weights, order, dropout and noise", ge=0)

    @property
    def epoch_tiles(self) -> EpochTiles | None:
        """The random tiles of an epoch."""
        if self.tiles_per_epoch is None:
            return None
        return EpochTiles(self.tiles_per_epoch, self.seed)

    @model_validator(mode="after")
    def _one_kind_of_random_bags(self) -> TrainConfig:
        if self.vote and self.tiles_per_epoch:
            raise ValueError(
                "tiles_per_epoch: with vote a slide is random bags of vote.size "
                "already; leave one of the two null"
            )
        return self

    @property
    def together(self) -> bool:
        """Whether random bags of a slide follow each other."""
        return self.vote is not None and self.vote.together

    @model_validator(mode="after")
    def _one_order(self) -> TrainConfig:
        if self.together and self.draws == "balanced":
            raise ValueError(
                "vote.together: bags of a slide follow each other, and draws=balanced "
                "orders them by class: give vote.together=false or draws=all"
            )
        return self

    @model_validator(mode="after")
    def _mixup_has_pairs(self) -> TrainConfig:
        if self.mixup and (self.batch_size < 2 or self.combine.name != "single"):
            raise ValueError(
                "mixup: mixes bags of a step, of one scale: give batch_size of 2 or "
                "more and combine=single, or mixup=0"
            )
        return self

    @model_validator(mode="after")
    def _pooling_can_be_built(self) -> TrainConfig:
        try:
            with torch.random.fork_rng([]):  # keep the global random state
                components.build(POOLINGS, self.pooling, 1, 2)
        except ValueError as error:
            raise ValueError(f"pooling: {error}") from None
        return self
