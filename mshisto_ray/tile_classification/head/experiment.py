"""A tile head as an experiment: everything that a sweep needs to know of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from mshisto_ray.learning.labelled import LabelledRows
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.result_files import (
    METRICS,
    PREDICTIONS,
    VALIDATION,
    measure,
    write_metrics,
)
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.learning.sweep.experiment import (
    Experiment,
    HeadFacts,
    OnFold,
    OnValidated,
)
from mshisto_ray.learning.targets import Target
from mshisto_ray.learning.targets.classes import NEAR
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.head_files import head_digest
from mshisto_ray.store.temporary import temporary_beside
from mshisto_ray.tile_classification.head.classes import TileClasses
from mshisto_ray.tile_classification.head.config import TileHeadConfig, TileInputConfig
from mshisto_ray.tile_classification.head.experiment_data import (
    NULL,
    difference,
    exchange_classes,
    tile_inputs,
    write_folds,
)
from mshisto_ray.tile_classification.head.files import load_heads
from mshisto_ray.tile_classification.head.fit import TileModel, predict_tiles
from mshisto_ray.tile_classification.head.predictions import (
    TilePart,
    as_predictions,
    read_tile_predictions,
    write_tile_predictions,
)
from mshisto_ray.tile_classification.head.run import (
    check_model,
    cross_validate,
    fit_folds,
    plan_folds,
    recipe,
    write_result,
)
from mshisto_ray.tile_classification.head.samples import TileSamples, read_samples
from mshisto_ray.tracking import Input

_UNDECIDED, _MOST_UNDECIDED = "undecided_share", 0.5


class TileExperiment(TileHeadConfig, Experiment):
    """Tiles, classes, split, head and training: everything that decides a result."""

    @classmethod
    def point_class(cls) -> type[TileExperiment]:
        """Without the keys of a job."""
        return TileExperiment

    @property
    def plain_name(self) -> str:
        """The widths of the head."""
        return f"hidden {list(self.hidden)}"

    @property
    def kind(self) -> Target:
        """Classes of tiles."""
        return TileClasses(column=self.target.column)

    def source(self) -> str:
        """Everything that tiles and splits depend on."""
        names = {*TileInputConfig.model_fields, "split", "runtime"}
        return self.model_dump_json(include=names)

    def load(self) -> TileSamples:
        """The tiles."""
        return read_samples(self)

    def check(self) -> tuple[TileSamples, list[Split]]:
        """Tiles and splits."""
        cache = CacheConfig(dir=self.runtime.cache.dir, max_gib=0)
        runtime = self.runtime.model_copy(update={"cache": cache})
        samples = read_samples(self.model_copy(update={"runtime": runtime}))
        return samples, plan_folds(samples, self)

    def check_model(self, data: TileSamples, splits: Sequence[Split]) -> None:
        """Reduction and noise, against the width and views of a tile."""
        check_model(data, splits, self)

    def check_same(self, data: TileSamples, first: TileSamples) -> str | None:
        """Other tiles, classes or groups."""
        return difference(data, first)

    def digest_of(self, data: TileSamples) -> str:
        """Of ``recipe``."""
        text = json.dumps(recipe(self, data), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def notes(self, data: TileSamples) -> list[str]:
        """Tiles and patients of each class, which is positive, and what is left out."""
        lines = [data.summary()]
        if len(data.classes) == 2 and self.target.classes is None:
            first, second = data.classes
            lines.append(
                f"{second!r}, the second class by name, is the positive one, whose "
                f"precision and recall are shown: target.classes=[{second}, {first}] "
                "turns them round"
            )
        return [*lines, *data.notes]

    @property
    def split_config(self) -> SplitConfig:
        """``split``."""
        return self.split

    def plan(self, data: TileSamples) -> list[Split]:
        """See ``plan_folds``."""
        return plan_folds(data, self)

    def rows(self, data: TileSamples) -> LabelledRows:
        """The tiles; what stays together in folds are the patients."""
        every = np.ones(len(data), bool)
        given = data.group, data.group, every
        return LabelledRows(self.kind, data.target, data.classes, *given)

    @property
    def null(self) -> str:
        """Patients have exchanged the classes of their tiles as they lie."""
        return NULL

    def exchanged(
        self, data: TileSamples, generator: np.random.Generator
    ) -> TileSamples:
        """See ``exchange_classes``."""
        return exchange_classes(data, generator)

    def held_out(
        self,
        data: TileSamples,
        splits: Sequence[Split],
        on_fold: OnFold = lambda done, total: None,
    ) -> Iterator[tuple[Predictions, Predictions | None]]:
        """Tiles that each model has not learned from, one model after the other."""
        for split, model in fit_folds(data, splits, self, _device(), on_fold):
            test, inner = (
                as_predictions(data, [_predicted(data, split, model, part)], self.kind)
                if len(part)
                else None
                for part in (split.test, split.validation)
            )
            assert test is not None
            yield test, inner

    def train(
        self,
        data: TileSamples,
        folder: Path,
        on_fold: OnFold,
        on_validated: OnValidated = lambda validation: None,
        stages: Sequence[int] = (),
    ) -> None:
        """Cross-validate, one model after the other, and write ``folder``."""
        started, cpu = time.perf_counter(), time.process_time()
        inner: list[TilePart] = []

        def validate(split: Split, model: TileModel) -> None:
            if len(split.validation):
                inner.append(_predicted(data, split, model, split.validation))
                on_validated(as_predictions(data, inner[-1:], self.kind))

        splits = self.plan(data)
        given = data, splits, self, _device(), on_fold, validate
        models, found = cross_validate(*given)
        scratch = temporary_beside(folder)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        whole = scratch / folder.name
        write_result(whole, data, splits, models, found, self)
        if inner:
            write_tile_predictions(whole / VALIDATION, data, inner)
        metrics = self._measure(whole)
        metrics["seconds"] = time.perf_counter() - started
        metrics["cpu_seconds"] = time.process_time() - cpu
        write_metrics(whole, metrics, self.kind)
        try:
            os.rename(whole, folder)
        except OSError:  # not empty: another run of this config has finished it
            if not (folder / METRICS).is_file():
                raise
        shutil.rmtree(scratch)

    def _measure(self, folder: Path) -> dict[str, float]:
        test = self.read_test(folder)
        found = measure(test, self.read_validation(folder))
        given = test.probabilities, test.target, len(test.classes)
        return found | {_UNDECIDED: self.kind.undecided(*given)}

    def warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """A head whose probabilities hardly depend on the tile."""
        share = metrics.get(_UNDECIDED, 0.0)
        if not share > _MOST_UNDECIDED:
            return []
        return [
            f"hardly trained: {share:.0%} of the test tiles have probabilities within "
            f"{NEAR:g} (less of a rare class) of the shares of the classes: raise "
            f"epochs or lr (now {self.lr:g}), lower noise or gamma; or this encoder "
            "cannot see what decides"
        ]

    def read_test(self, folder: Path) -> Predictions:
        """Of tiles."""
        return read_tile_predictions(folder / PREDICTIONS, self.kind)

    def read_validation(self, folder: Path) -> Predictions | None:
        """Of tiles."""
        file = folder / VALIDATION
        return read_tile_predictions(file, self.kind) if file.is_file() else None

    def write_folds(
        self, path: Path, data: TileSamples, splits: Sequence[Split]
    ) -> None:
        """A row per patient of every part of a split."""
        write_folds(path, data, splits)

    def inputs(self, data: TileSamples) -> list[Input]:
        """The embeddings, and the table or cohort with the classes."""
        labels = self.target.table or self.cohort or self.tiles
        return tile_inputs(data, self.sources, labels)

    @property
    def sources(self) -> tuple[Path, ...]:
        """Directories of embeddings."""
        views = [view.embeddings for view in self.views or ()]
        return tuple(dict.fromkeys([self.embeddings] if self.embeddings else views))

    def head_facts(self, path: Path) -> HeadFacts:
        """Of the head."""
        head = load_heads(path)
        return HeadFacts(head_digest(path), head.about["dim"], head.classes)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _predicted(
    data: TileSamples, split: Split, model: TileModel, index: np.ndarray
) -> TilePart:
    """Tiles that a model has not learned from, with its probabilities."""
    rows = np.sort(index)
    return split, rows, predict_tiles(data, model.model, model.prepare, rows)
