"""Where bags come from: slides of a cohort with their embeddings, or a bag table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from mshisto_ray.config import Config, InputError, InputPath, option
from mshisto_ray.mil.bag_table import read_bag_table
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.cohort import read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import Features, ParquetFeatures

ClassName = Annotated[str, BeforeValidator(str)]


class InputConfig(Config):
    """Where bags come from: ``embeddings`` with ``cohort``, or ``bags``."""

    embeddings: InputPath | None = option(None, "directory that jobs/embed.py made")
    cohort: InputPath | None = option(None, "table of slides with their labels")
    bags: InputPath | None = option(
        None,
        "Parquet table in place of embeddings and cohort: a row per instance with bag, "
        "label, features, and if wanted patient_id and fold",
    )
    scale: float | None = option(
        None, "scale of the embeddings; null: their finest", unit="um/px", gt=0
    )
    unit: Literal["slide", "patient"] = option(
        "slide", "what a bag is: one slide, or all labelled slides of a patient"
    )

    @model_validator(mode="after")
    def _one_source(self) -> InputConfig:
        given = {n for n in ("embeddings", "cohort", "bags") if getattr(self, n)}
        if given not in ({"embeddings", "cohort"}, {"bags"}):
            raise ValueError(
                "give embeddings and cohort, or bags alone; got "
                f"{', '.join(sorted(given)) or 'none of them'}"
            )
        if self.bags and self.scale is not None:
            raise ValueError("scale: a bag table has no scales; leave it null")
        return self


class TargetConfig(Config):
    """What is predicted of a bag."""

    kind: Literal["classes", "multilabel", "regression", "survival"] = option(
        "classes", "kind of target; only classes is built"
    )
    column: str = option("label", "column of the cohort or bag table")
    classes: tuple[ClassName, ...] | None = option(
        None,
        "classes in order (of two, the second is the positive one); bags of others "
        "are left out; null: all that occur, sorted",
    )

    @field_validator("kind")
    @classmethod
    def _is_built(cls, kind: str) -> str:
        if kind != "classes":
            raise ValueError(f"{kind!r} is not built yet; have 'classes'")
        return kind

    @field_validator("classes")
    @classmethod
    def _are_distinct(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and (
            len(classes) < 2 or len(set(classes)) < len(classes)
        ):
            raise ValueError("give at least two classes, each once")
        return classes


@dataclass(frozen=True)
class Row:
    """A slide of the cohort, or a bag of a table; ``member`` -1: no embeddings."""

    name: str
    patient_id: str
    label: str | None
    fold: str | None
    member: int


@dataclass(frozen=True)
class Source:
    """Rows with where their instances are; ``what`` a row is called in messages."""

    rows: list[Row]
    features: Features
    what: str
    has_fold: bool
    digest: str
    encoder: Mapping[str, Any] | None
    scale: float | None
    notes: tuple[str, ...]


def open_source(
    config: InputConfig, label: str | None, fold: str | None, cache: CacheConfig
) -> Source:
    """Rows of the input with the given label and fold columns.

    Raises:
        InputError: unreadable input, or no such label column or scale. A fold column
            need not be there.
    """
    if config.bags:
        return _table_source(config, label, fold)
    return _cohort_source(config, label, fold, cache)


def _cohort_source(
    config: InputConfig, label: str | None, fold: str | None, cache: CacheConfig
) -> Source:
    assert config.embeddings and config.cohort
    directory = EmbeddingDirectory(config.embeddings)
    cohort = read_cohort(config.cohort, check_files=False)
    scale = directory.scales[0] if config.scale is None else config.scale
    if scale not in directory.scales:
        have = ", ".join(map(str, directory.scales))
        raise InputError(f"scale: {scale} is not in {config.embeddings}; have {have}")
    labels = cohort.column(label) if label else {}
    has_fold = fold in cohort.column_names
    folds = cohort.column(fold) if fold and has_fold else {}
    place = {slide_id: i for i, slide_id in enumerate(directory.slide_ids)}
    rows = [
        Row(
            name=slide.slide_id,
            patient_id=slide.patient_id,
            label=labels.get(slide.slide_id),
            fold=folds.get(slide.slide_id),
            member=place.get(slide.slide_id, -1),
        )
        for slide in cohort.rows
    ]
    features = open_features(directory, scale, cache)
    notes = ()
    if isinstance(features, ParquetFeatures) and cache.max_gib:
        notes = (
            f"{config.embeddings}: does not fit the node cache (cache.max_gib="
            f"{cache.max_gib:g}); read from Parquet in every epoch",
        )
    encoder = directory.manifest.recipe["encoder"]
    digest = directory.digest
    return Source(rows, features, "slides", has_fold, digest, encoder, scale, notes)


def _table_source(config: InputConfig, label: str | None, fold: str | None) -> Source:
    assert config.bags
    wanted = {name for name in (label, "patient_id", fold) if name}
    table = read_bag_table(config.bags, wanted)
    if label and label not in table.columns:
        have = ", ".join(table.column_names) or "none"
        raise InputError(f"{config.bags}: no column {label!r}; have {have}")
    names = table.features.slide_ids
    nothing: list[str | None] = [None] * len(names)
    patients = table.columns.get("patient_id", nothing)
    labels = table.columns[label] if label else nothing
    has_fold = fold in table.columns
    folds = table.columns[fold] if fold and has_fold else nothing
    rows = [
        Row(name, patients[i] or name, labels[i], folds[i], i)
        for i, name in enumerate(names)
    ]
    return Source(rows, table.features, "bags", has_fold, table.digest, None, None, ())
