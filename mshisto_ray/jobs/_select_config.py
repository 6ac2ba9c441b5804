"""Config of a comparison of encoders."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from mshisto_ray.backbone.precision import Precision
from mshisto_ray.components import Family, Part
from mshisto_ray.config import Config, InputPath, OutputPath, option
from mshisto_ray.embedding.worker import ENCODERS
from mshisto_ray.learning.split import SplitConfig
from mshisto_ray.store.columns import ColumnsConfig
from mshisto_ray.tile_classification.head.config import TileLabelConfig, TileRuntime
from mshisto_ray.tile_classification.image_table import ImagesConfig
from mshisto_ray.tile_classification.probes import FAMILY as PROBES

SUMMARY, SCORES = "summary.md", "scores.csv"
_PROBES = {name: Part(name=name) for name in ("dense", "linear", "knn")}


class FewShotConfig(Config):
    """How many tiles a class SimpleShot sees, and how often they are drawn."""

    shots: tuple[Annotated[int, option(ge=1)], ...] = option(
        (1, 2, 4, 8, 16), "tiles a class"
    )
    draws: int = option(10, "of tiles, whose metrics are averaged", ge=1)


class SelectConfig(Config):
    """Rank encoders on labelled images or embedded tiles."""

    images: ImagesConfig | None = option(
        None, "labelled image files, embedded here by each of encoders"
    )
    encoders: dict[str, Annotated[Part, Family(ENCODERS)]] = option(
        {}, "with images: {name: encoder, ...}"
    )
    floors: bool = option(
        True, "with images: add colour statistics and a random network"
    )
    embeddings: dict[str, InputPath] = option(
        {}, "in place of images: {name: embeddings directory} of the same tiles"
    )
    colours: dict[str, str] = option(
        {}, "{name: colour mode} of embeddings; without one: their first"
    )
    scale: float | None = option(
        None,
        "with embeddings: scale of the tiles; null: the finest",
        unit="um/px",
        gt=0,
    )
    cohort: InputPath | None = option(
        None, "with embeddings: table of the slides, as in tile_head"
    )
    columns: ColumnsConfig = ColumnsConfig()
    tiles: InputPath | None = option(
        None, "with embeddings: tiles directory, as in tile_head"
    )
    target: TileLabelConfig = TileLabelConfig()
    second_task: TileLabelConfig | None = option(
        None, "with embeddings: classes on which the ranking is repeated"
    )
    site: str | None = option(
        None,
        "with embeddings: column of the cohort with sites or scanners, to measure "
        "how robust encoders are",
    )
    few_shot: FewShotConfig | None = option(
        None, "SimpleShot of a few tiles a class; null: not"
    )
    split: SplitConfig = SplitConfig()
    probes: dict[str, Annotated[Part, Family(PROBES)]] = option(
        _PROBES, "{name: probe}; the first one ranks"
    )
    metric: Literal["balanced_accuracy", "kappa", "weighted_f1", "auroc", "pr_auc"] = (
        option("balanced_accuracy", "metric that ranks the encoders")
    )
    embedding_map: bool = option(
        False, "draw each encoder's tiles on a plane by UMAP (needs the extra `plots`)"
    )
    precision: Precision = option("float32", "with images: precision of the encoders")
    out: OutputPath = option(text=f"folder of {SUMMARY} and {SCORES}")
    runtime: TileRuntime = TileRuntime()

    @model_validator(mode="after")
    def _one_source(self) -> SelectConfig:
        if (self.images is None) == (not self.embeddings):
            raise ValueError("give images with encoders, or embeddings")
        if self.images and not self.encoders:
            raise ValueError("encoders: give {name: encoder, ...} for the images")
        unknown = sorted(self.colours.keys() - self.embeddings.keys())
        if unknown:
            have = ", ".join(self.embeddings) or "none"
            raise ValueError(
                f"colours: {unknown[0]!r} is not among the embeddings; have {have}"
            )
        if not self.probes:
            raise ValueError("probes: give one or more")
        if self.images and (self.site or self.second_task):
            raise ValueError(
                "site, second_task: of images give images.site, images.second_label"
            )
        if self.site and self.cohort is None:
            raise ValueError("site: a column of the cohort; give cohort=TABLE")
        return self
