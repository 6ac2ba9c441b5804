"""Where bags come from: slides of a cohort with their embeddings, or a bag table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from mshisto_ray.config import Config, InputError, InputPath, option
from mshisto_ray.mil.bag_table import read_bag_table
from mshisto_ray.mil.scales import FinerScale, open_chain
from mshisto_ray.store.cache import CacheConfig, open_features
from mshisto_ray.store.cohort import Cohort, read_cohort
from mshisto_ray.store.embeddings import EmbeddingDirectory
from mshisto_ray.store.features import Features, ParquetFeatures

ClassName = Annotated[str, BeforeValidator(str)]


class InputConfig(Config):
    """Where bags come from: ``embeddings`` with ``cohort``, or ``bags``."""

    embeddings: InputPath | tuple[InputPath, ...] | None = option(
        None,
        "directory that jobs/embed.py made; a list: one per scale of scales, where "
        "each scale has an encoder of its own",
    )
    cohort: InputPath | None = option(None, "table of slides with their labels")
    bags: InputPath | None = option(
        None,
        "Parquet table in place of embeddings and cohort: a row per instance with bag, "
        "label, features, and if wanted patient_id and fold",
    )
    scale: float | None = option(
        None, "scale of the embeddings; null: their finest", unit="um/px", gt=0
    )
    scales: tuple[Annotated[float, option(gt=0)], ...] | None = option(
        None,
        "scales that combine brings together, from the coarsest down, as [2.0, 1.0]; "
        "an instance is then a tile of the first with its finer ones",
        unit="um/px",
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
        if self.bags and (self.scale is not None or self.scales is not None):
            raise ValueError("scale: a bag table has no scales; leave it null")
        if self.scales is not None and self.scale is not None:
            raise ValueError("give scale (one) or scales (several), not both")
        if self.scales is not None and len(self.scales) < 2:
            raise ValueError("scales: give at least two, or one as scale")
        paths = self.embeddings
        if isinstance(paths, tuple) and len(paths) != len(self.scales or ()):
            raise ValueError(
                f"embeddings: {len(paths)} directories for "
                f"{len(self.scales or ())} scales; give one, or one per scale"
            )
        return self

    @property
    def directories(self) -> tuple[Path, ...]:
        """Embeddings of each scale, coarsest first."""
        if isinstance(self.embeddings, tuple):
            return self.embeddings
        assert self.embeddings is not None
        return (self.embeddings,) * len(self.scales or (0,))


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
    finer: tuple[FinerScale, ...] = ()


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
    cohort = read_cohort(_given(config.cohort), check_files=False)
    if config.scales:
        return _chain_source(config, config.scales, cohort, label, fold, cache)
    return _cohort_source(config, cohort, label, fold, cache)


def _chain_source(
    config: InputConfig,
    scales: tuple[float, ...],
    cohort: Cohort,
    label: str | None,
    fold: str | None,
    cache: CacheConfig,
) -> Source:
    directories = [EmbeddingDirectory(path) for path in config.directories]
    names = [row.slide_id for row in cohort.rows]
    chain = open_chain(directories, scales, names, cache)
    rows, has_fold = _rows(cohort, chain.members, label, fold)
    parts = (chain.features, *(scale.features for scale in chain.finer))
    notes = [_uncached(config.directories[0], cache)] if _are_slow(parts, cache) else []
    for scale in chain.finer:
        none = [
            slide_id
            for slide_id, member in chain.members.items()
            if not len(scale.children[member].rows)
        ]
        if none:
            notes.append(
                f"{len(none)} of {len(names)} slides have no tile at {scale.mpp:g} "
                f"um/px, so no children there: {', '.join(none[:5])}"
            )
    return Source(
        rows, chain.features, "slides", has_fold, chain.digest, chain.encoder,
        scales[0], tuple(notes), chain.finer,
    )  # fmt: skip


def _rows(
    cohort: Cohort, place: Mapping[str, int], label: str | None, fold: str | None
) -> tuple[list[Row], bool]:
    """A row a slide of the cohort, and whether the cohort has folds."""
    labels = cohort.column(label) if label else {}
    has_fold = fold in cohort.column_names
    folds = cohort.column(fold) if fold and has_fold else {}
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
    return rows, has_fold


def _are_slow(parts: Sequence[Features], cache: CacheConfig) -> bool:
    return bool(cache.max_gib) and any(isinstance(p, ParquetFeatures) for p in parts)


def _uncached(path: Path, cache: CacheConfig) -> str:
    return (
        f"{path}: does not fit the node cache (cache.max_gib={cache.max_gib:g}); read "
        "from Parquet in every epoch"
    )


def _given(path: Path | None) -> Path:
    assert path is not None
    return path


def _cohort_source(
    config: InputConfig,
    cohort: Cohort,
    label: str | None,
    fold: str | None,
    cache: CacheConfig,
) -> Source:
    (path,) = config.directories
    directory = EmbeddingDirectory(path)
    scale = directory.scales[0] if config.scale is None else config.scale
    if scale not in directory.scales:
        have = ", ".join(map(str, directory.scales))
        raise InputError(f"scale: {scale} is not in {path}; have {have}")
    place = {slide_id: i for i, slide_id in enumerate(directory.slide_ids)}
    rows, has_fold = _rows(cohort, place, label, fold)
    features = open_features(directory, scale, cache)
    notes = (_uncached(path, cache),) if _are_slow([features], cache) else ()
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
