"""Config of a prediction, and what it names."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import model_validator

from mshisto_ray.config import (
    Config,
    InputError,
    InputPath,
    ModelPath,
    OutputPath,
    option,
)
from mshisto_ray.mil.head import Head
from mshisto_ray.prediction.views import views_of
from mshisto_ray.runtime import UnitsRuntime
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.columns import ColumnsConfig

_NAME = re.compile(r"[\w\-]+")


class _SlidesConfig(Config):
    """What heads are applied to."""

    embeddings: InputPath | tuple[InputPath, ...] = option(
        text="directory that mshisto embed made; a list: one per scale or view of the "
        "head"
    )
    cohort: InputPath = option(text="the slides to predict; labels are not needed")
    columns: ColumnsConfig = ColumnsConfig()
    out: OutputPath = option(text="predictions directory; an unfinished one is resumed")
    tiles: InputPath | None = option(
        None, "tiles directory, for heat maps over the slides; null: none are drawn"
    )
    annotation: str | None = option(
        None,
        "class of annotated tiles to compare scores with; null: the only one",
    )
    subgroups: tuple[str, ...] = option(
        (), "columns of the cohort, as [site, sex]: metrics within each of their values"
    )
    runtime: UnitsRuntime = UnitsRuntime()


class OneHeadConfig(_SlidesConfig):
    """Predict new slides with one head."""

    head: ModelPath


class PredictConfig(_SlidesConfig):
    """Predict new slides with a saved head, or with several in one pass."""

    head: ModelPath | None = option(
        None,
        "head directory (`best` of sweep, `result/head` of train or tile_head), or one "
        "that is registered in MLflow: models:/NAME@champion",
    )
    heads: dict[str, ModelPath] = option(
        {}, "in place of head, several in one pass: {name: head}; each fills out/NAME"
    )

    @model_validator(mode="after")
    def _one_or_several(self) -> PredictConfig:
        if (self.head is None) == (not self.heads):
            raise ValueError("give head, or heads in place of it")
        for name in self.heads:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"heads: {name!r} names a folder and columns: use letters, digits, "
                    "- and _"
                )
        return self

    def parts(self) -> dict[str, OneHeadConfig]:
        """The config of each head alone, by name; of ``head`` the name is empty."""
        shared = {
            name: getattr(self, name)
            for name in _SlidesConfig.model_fields
            if name != "out"
        }
        if self.head is not None:
            return {"": OneHeadConfig(head=self.head, out=self.out, **shared)}
        return {
            name: OneHeadConfig(head=head, out=self.out / name, **shared)
            for name, head in self.heads.items()
        }


def read_predict_cohort(config: _SlidesConfig) -> Cohort:
    """The cohort, with or without labels.

    Raises:
        InputError: the table or a column of ``subgroups`` cannot be used.
    """
    cohort = read_cohort(config.cohort, False, config.columns)
    for column in config.subgroups:
        cohort.column(column)  # refuses one that cannot be used
    return cohort


def embedding_paths(config: _SlidesConfig, head: Head) -> tuple[Path, ...]:
    """Embeddings of each scale of the head, coarsest first, or of each of its views.

    Raises:
        InputError: not one directory, or one per scale or view.
    """
    num, what = len(head.dims), "scales"
    if views_of(head):
        num, what = len(views_of(head)), "views"
    if isinstance(config.embeddings, Path):
        return (config.embeddings,) * num
    if len(config.embeddings) != num:
        raise InputError(
            f"embeddings: {len(config.embeddings)} directories for a head of {num} "
            f"{what}: give one, or one for each of its {what}"
        )
    return config.embeddings
