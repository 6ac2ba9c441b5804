"""A tile head as an experiment: everything that a sweep needs to know of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.result_files import (
    METRICS,
    PREDICTIONS,
    VALIDATION,
    measure,
    write_metrics,
)
from mshisto_ray.learning.split import Split
from mshisto_ray.learning.sweep.experiment import Experiment, HeadFacts, OnFold
from mshisto_ray.learning.targets import Target
from mshisto_ray.learning.targets.classes import NEAR
from mshisto_ray.store.cache import CacheConfig
from mshisto_ray.store.head_files import head_digest
from mshisto_ray.store.shards import write_shard
from mshisto_ray.store.temporary import temporary_beside
from mshisto_ray.tile_classification.head.classes import TileClasses
from mshisto_ray.tile_classification.head.config import TileHeadConfig, TileInputConfig
from mshisto_ray.tile_classification.head.files import load_heads
from mshisto_ray.tile_classification.head.fit import TileModel, predict_tiles
from mshisto_ray.tile_classification.head.predictions import (
    read_tile_predictions,
    write_tile_predictions,
)
from mshisto_ray.tile_classification.head.run import (
    check_model,
    cross_validate,
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
        return _difference(data, first)

    def digest_of(self, data: TileSamples) -> str:
        """Of ``recipe``."""
        text = json.dumps(recipe(self, data), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def notes(self, data: TileSamples) -> list[str]:
        """Tiles and patients of each class, and what is left out."""
        return [data.summary(), *data.notes]

    def train(self, data: TileSamples, folder: Path, on_fold: OnFold) -> None:
        """Cross-validate, and write ``folder``."""
        started, cpu = time.perf_counter(), time.process_time()
        splits = plan_folds(data, self)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        models, found = cross_validate(data, splits, self, device, on_fold)
        scratch = temporary_beside(folder)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        whole = scratch / folder.name
        write_result(whole, data, splits, models, found, self)
        validated = _predict_validation(data, splits, models)
        if validated:
            write_tile_predictions(whole / VALIDATION, data, validated)
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
            f"{NEAR:g} of the shares of the classes: raise epochs or lr (now "
            f"{self.lr:g}), lower noise or gamma; or this encoder cannot see what "
            "decides"
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
        """``patient_id, repeat, fold, part, tiles``: patients are in one part."""
        rows = []
        for split in splits:
            for part in ("train", "validation", "test"):
                groups = data.group[getattr(split, part)]
                found, tiles = np.unique(groups, return_counts=True)
                for group, num in zip(found.tolist(), tiles.tolist(), strict=True):
                    where = (split.repeat, split.fold, part)
                    rows.append((data.groups[group], *where, num))
        names = ("patient_id", "repeat", "fold", "part", "tiles")
        table = [dict(zip(names, row, strict=True)) for row in rows]
        write_shard(path, [pa.Table.from_pylist(table)])

    def inputs(self, data: TileSamples) -> list[Input]:
        """The embeddings, and the table or cohort with the classes."""
        sizes = {"tiles": len(data), "patients": len(data.groups)}
        labels = self.target.table or self.cohort or self.tiles
        found = [Input(path.name, path, data.digest, sizes) for path in self.sources]
        if labels:
            found.append(Input(labels.name, labels, data.identity, sizes))
        return found

    @property
    def sources(self) -> tuple[Path, ...]:
        """Directories of embeddings."""
        views = [view.embeddings for view in self.views or ()]
        return tuple(dict.fromkeys([self.embeddings] if self.embeddings else views))

    def head_facts(self, path: Path) -> HeadFacts:
        """Of the head."""
        head = load_heads(path)
        return HeadFacts(head_digest(path), head.about["dim"], head.classes)


def _predict_validation(
    data: TileSamples, splits: Sequence[Split], models: Sequence[TileModel]
) -> list[tuple[Split, np.ndarray, np.ndarray]]:
    """Tiles that were set aside in each fold, with its model's probabilities."""
    found = []
    for split, model in zip(splits, models, strict=True):
        rows = np.sort(split.validation)
        if len(rows):
            given = predict_tiles(data, model.model, model.prepare, rows)
            found.append((split, rows, given))
    return found


def _difference(data: TileSamples, first: TileSamples) -> str | None:
    """Why results on these tiles cannot be compared with those on others; or None."""
    both = [_columns(samples) for samples in (data, first)]
    if all(np.array_equal(one, two) for one, two in zip(*both, strict=True)):
        return None
    if data.mpp != first.mpp:
        return (
            f"tiles of {data.mpp:g} um/px, and of {first.mpp:g} at the first point: "
            "results on different tiles cannot be compared; views join scales on the "
            "tiles of the finest"
        )
    keys = [set(zip(*(c.tolist() for c in own), strict=True)) for own in both]
    odd = {key[:3] for key in keys[0] ^ keys[1]}
    return (
        f"{len(odd):,} tiles are not at the first point too, or "
        "have another class or patient there; results on different tiles cannot be "
        "compared: give every point views whose tiles are all embedded"
    )


def _columns(samples: TileSamples) -> tuple[np.ndarray, ...]:
    """Slide, row, column, class and group of every tile, [N] each."""
    return (
        np.array(list(samples.features.slide_ids), object)[samples.slide],
        *samples.place.T,
        np.array(samples.classes, object)[samples.target],
        np.array(samples.groups, object)[samples.group],
    )
