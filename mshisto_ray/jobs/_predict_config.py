"""Config of a prediction, and what it names."""

from __future__ import annotations

from pathlib import Path

from mshisto_ray.config import (
    Config,
    InputError,
    InputPath,
    ModelPath,
    OutputPath,
    option,
)
from mshisto_ray.mil.head import Head
from mshisto_ray.runtime import UnitsRuntime
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.columns import ColumnsConfig


class PredictConfig(Config):
    """Predict new slides with a saved head."""

    head: ModelPath = option(
        text="head directory (`best` of sweep, `result/head` of train), or one that "
        "is registered in MLflow: models:/NAME@champion"
    )
    embeddings: InputPath | tuple[InputPath, ...] = option(
        text="directory that jobs/embed.py made; a list: one per scale of the head"
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


def read_predict_cohort(config: PredictConfig) -> Cohort:
    """The cohort, with or without labels.

    Raises:
        InputError: the table or a column of ``subgroups`` cannot be used.
    """
    cohort = read_cohort(config.cohort, False, config.columns)
    for column in config.subgroups:
        cohort.column(column)  # refuses one that cannot be used
    return cohort


def embedding_paths(config: PredictConfig, head: Head) -> tuple[Path, ...]:
    """Embeddings of each scale of the head, coarsest first.

    Raises:
        InputError: not one directory, or one per scale.
    """
    num = len(head.dims)
    if isinstance(config.embeddings, Path):
        return (config.embeddings,) * num
    if len(config.embeddings) != num:
        raise InputError(
            f"embeddings: {len(config.embeddings)} directories for the {num} scales of "
            f"{config.head}; give one, or one per scale"
        )
    return config.embeddings
