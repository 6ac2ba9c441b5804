"""Configuration of a tile head: its tiles and labels, model and training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputPath, option
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.representation.noises import FAMILY as NOISES
from mshisto_ray.representation.reductions import FAMILY as REDUCTIONS
from mshisto_ray.representation.views import ViewConfig
from mshisto_ray.runtime import Runtime
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.tile_classification.target import TileTargetConfig


class TileLabelConfig(TileTargetConfig):
    """Where the class of a tile comes from: a table, annotations, or the cohort."""

    table: InputPath | None = option(
        None,
        "in place of column: CSV or Parquet with slide_id, label, and row and col of "
        "tiles, or x and y of points (level-0 pixels)",
    )
    group: str | None = option(
        None,
        "column of the table or cohort whose tiles stay together in place of those of "
        "a patient, as block",
    )


class TileInputConfig(Config):
    """Embeddings of tiles, and their classes."""

    embeddings: InputPath | None = option(
        None, "directory that mshisto embed made; or views"
    )
    scale: float | None = option(
        None, "of the tiles; null: the finest", unit="um/px", gt=0
    )
    colour: str | None = option(
        None, "colour mode of the embeddings, as gray; null: their first"
    )
    views: tuple[ViewConfig, ...] | None = option(
        None, "in place of embeddings and scale: several of a tile, side by side"
    )
    cohort: InputPath | None = option(
        None, "slides to use, their patients, folds and classes; null: all embedded"
    )
    columns: ColumnsConfig = ColumnsConfig()
    tiles: InputPath | None = option(
        None, "tiles directory, for target.column=annotation"
    )
    target: TileLabelConfig = TileLabelConfig()

    @model_validator(mode="after")
    def _one_source(self) -> TileInputConfig:
        if (self.embeddings is None) == (not self.views):
            raise ValueError("give embeddings, or views in place of it")
        if self.views and self.scale is not None:
            raise ValueError("views: each has its mpp; leave scale null")
        if self.views and self.colour:
            raise ValueError("colour: of embeddings; each of the views has its own")
        return self


class TileModelConfig(Config):
    """A tile head and its training."""

    hidden: tuple[Annotated[int, option(ge=1)], ...] = option(
        (), "widths of ReLU layers; []: one dense layer on the embedding"
    )
    dropout: float = option(0.0, "share of zeroed outputs of hidden layers", ge=0, lt=1)
    gamma: float = option(2.0, "of the focal loss; 0: cross-entropy", ge=0)
    class_weights: Literal["none", "balanced"] = option(
        "none", "balanced: the loss of a class weighs by 1 / its share"
    )
    draws: Literal["natural", "balanced"] = option(
        "natural", "balanced: an epoch has as many tiles of each class"
    )
    noise: Annotated[Part, Family(NOISES)] = option(
        Part(name="gaussian"), "added in training, drawn anew in each step"
    )
    mixup: float = option(
        0.0,
        "alpha: two tiles and their classes mixed with a share of Beta(alpha, alpha); "
        "0: none",
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
    lr: float = option(1e-3, "of Adam; it falls to 0 with a cosine", gt=0)
    weight_decay: float = option(0.0, "of Adam", ge=0)
    epochs: int = option(30, "at most", "epochs", ge=1)
    batch_size: int = option(256, "tiles per step", "tiles", ge=1)
    patience: int | None = option(
        5,
        "epochs without a better balanced accuracy on validation; null: all epochs, "
        "last weights",
        "epochs",
        ge=1,
    )
    seed: int = option(0, "initial weights, order, dropout and noise", ge=0)


class TileRuntime(Runtime):
    """Node cache and MLflow runs of a tile head."""

    cache: CacheConfig = CacheConfig()
    window: int = option(
        65536, "tiles in memory at once, which are shuffled", "tiles", ge=1024
    )


class TileHeadConfig(TileModelConfig, TileInputConfig):
    """Tiles, classes, split, head and training: everything that decides a result."""

    split: SplitConfig = SplitConfig()
    runtime: TileRuntime = TileRuntime()

    @model_validator(mode="after")
    def _validation_where_it_stops(self) -> TileHeadConfig:
        if self.patience is not None and not self.split.validation:
            raise ValueError(
                "patience needs tiles to watch: give split.validation=0.2, or "
                "patience=null"
            )
        return self
