"""A task on tiles: a head on embeddings, and a network trained on their pixels."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mshisto_ray import config as configs
from mshisto_ray.config import Config, InputError, option
from mshisto_ray.encoders import checkpoint
from mshisto_ray.learning.predictions import Predictions
from mshisto_ray.learning.split import Split, SplitConfig
from mshisto_ray.store.manifest import recipe_digest
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.studies._study import UnitResult
from mshisto_ray.tile_classification.finetune import finetune_share
from mshisto_ray.tile_classification.finetune_config import (
    FinetuneConfig,
    finetune_recipe,
    fold_data,
)
from mshisto_ray.tile_classification.head.config import (
    TileHeadConfig,
    TileLabelConfig,
)
from mshisto_ray.tile_classification.head.run import cross_validate, draw_folds, recipe
from mshisto_ray.tile_classification.head.samples import TileSamples, read_samples
from mshisto_ray.tile_classification.head_fold import (
    HeadFold,
    as_folds,
    predict_fold,
)
from mshisto_ray.training.joint_batch import WHOLE
from mshisto_ray.training.reading import IndexedTileReader

FILE = "task.yaml"
_TIMED = 64


class TaskConfig(Config):
    """``task.yaml``: which tiles, of what classes, and how they are split."""

    folder: str | None = option(
        None, "beside this one, with tiles and embeddings; null: this one"
    )
    scale: float = option(text="of the tiles", unit="um/px", gt=0)
    context: float | None = option(
        None, "of the second view, where there is one", unit="um/px", gt=0
    )
    target: TileLabelConfig = TileLabelConfig()
    split: SplitConfig = SplitConfig()


@dataclass(frozen=True)
class Regular:
    """What keeps a head from overfitting: noise on embeddings, weight decay."""

    sigma: float
    noise: str = "gaussian"
    decay: float = 0.0


@dataclass(frozen=True)
class Arm:
    """One way to classify: an encoder, its views and the training of its head."""

    encoder: str
    multi: bool
    hidden: tuple[int, ...]
    regular: Regular


class TileTask:
    """A folder with ``task.yaml``, ``tiles``, ``embeddings/<encoder>``.

    ``cohort.csv`` and ``labels.csv`` (a table of ``tile_head``) are used where there
    are any.

    Raises:
        InputError: no such folder, or keys that it does not take.
    """

    def __init__(self, path: Path):
        if not (path / FILE).is_file():
            raise InputError(f"data: no {FILE} in {path}")
        raw = configs.read_yaml(path / FILE)
        self.name, self._path = path.name, path
        self.config = configs.validate(TaskConfig, raw)
        self._source = path.parent / (self.config.folder or path.name)
        self.tiles = TileDirectory(self._source / "tiles")

    def samples(self, arm: Arm) -> TileSamples:
        """The labelled tiles with the embeddings of an arm."""
        with tempfile.TemporaryDirectory(prefix="mshisto-") as cache:
            return read_samples(self.head(arm, Path(cache)))

    def head(self, arm: Arm, cache: Path) -> TileHeadConfig:
        """The config of an arm's head."""
        given = self.config
        folder = self._source / "embeddings" / arm.encoder
        target = given.target.model_dump()
        if (self._path / "labels.csv").is_file():
            target["table"] = self._path / "labels.csv"
        cohort = self._source / "cohort.csv"
        source: dict[str, Any] = {"embeddings": folder, "scale": given.scale}
        if arm.multi:
            scales = (given.scale, given.context)
            views = [{"embeddings": folder, "mpp": mpp} for mpp in scales]
            source = {"views": views}
        raw = source | {
            "cohort": cohort if cohort.is_file() else None,
            "tiles": self._source / "tiles",
            "target": target,
            "split": given.split,
            "hidden": arm.hidden,
            "noise": {"name": arm.regular.noise, "sigma": arm.regular.sigma},
            "weight_decay": arm.regular.decay,
            "patience": 10 if given.split.validation else None,
            "epochs": 30,
            "batch_size": 64,
            "runtime": {"cache": {"dir": cache, "max_gib": 0}},
        }
        return configs.validate(TileHeadConfig, raw)

    def head_recipe(self, arm: Arm) -> dict[str, Any]:
        """What an arm's result depends on."""
        samples = self.samples(arm)
        return recipe(self.head(arm, Path()), samples)

    def run_head(self, arm: Arm) -> UnitResult:
        """Cross-validate an arm's head in every repeat of the split.

        A repeat has folds, first weights and noise of its own. ``head_cpu_s``: of all
        folds of one repeat (their mean), with standardisation and early stopping;
        ``loss``: of training in the last epoch, ``epochs``: up to the weights that are
        kept, means over folds and repeats.
        """
        samples, config = self.samples(arm), self.head(arm, Path())
        splits = draw_folds(samples, config.split)
        started = time.process_time()
        models, found = cross_validate(samples, splits, config, torch.device("cpu"))
        seconds = (time.process_time() - started) / len(found)
        extras = {
            "head_cpu_s": seconds,
            "tiles": float(len(samples)),
            "loss": float(np.mean([m.history[-1]["loss"] for m in models])),
            "epochs": float(np.mean([m.epochs for m in models])),
        }
        return UnitResult(as_predictions(samples, splits, found), extras)

    def finetuning(self, raw: dict[str, Any], out: Path) -> FinetuneConfig:
        """The config of the trained network, from the keys of ``finetune.yaml``."""
        paths = {"tiles": self._source / "tiles", "out": out}
        runtime = {"readers": 1, "pixel_cache": {"max_gib": 0}}
        return configs.validate(FinetuneConfig, raw | paths | {"runtime": runtime})

    def finetune_recipe(self, arm: Arm, raw: dict[str, Any], fold: int) -> str:
        """Digest of what a fold's network depends on."""
        config = self.finetuning(raw, Path())
        folds = self._folds(arm)
        return recipe_digest(
            finetune_recipe(config, fold_data(config, self.tiles, folds[fold]))
        )

    def run_finetuning(self, arm: Arm, raw: dict[str, Any], number: int) -> UnitResult:
        """Train the network on one fold of an arm's head, and test it.

        ``train_cpu_s``: with reading and validation; ``embed_cpu_s``: to read all
        tiles of the task and run the same network once, from a sample of them;
        ``accuracy``: on the last training batches.
        """
        fold = self._folds(arm)[number]
        with tempfile.TemporaryDirectory(prefix="mshisto-") as folder:
            config = self.finetuning(raw, Path(folder))
            data = fold_data(config, self.tiles, fold)
            started = time.process_time()
            trained = finetune_share(config, data, print, WHOLE, torch.device("cpu"))
            seconds = time.process_time() - started
            path = str(trained.encoder)
            network = checkpoint.build("cpu", "float32", path=path, output="projection")
        found = predict_fold(fold, self.tiles, network, 1)
        reader = IndexedTileReader(self.tiles, fold.whole.index, 1)
        num = min(_TIMED, len(fold.samples))
        started = time.process_time()
        network(reader(np.arange(num)).pixels)
        each = (time.process_time() - started) / num
        extras = {
            "train_cpu_s": seconds,
            "embed_cpu_s": each * len(fold.samples),
            "accuracy": trained.history[-1]["accuracy"],
        }
        split = fold.split
        known = np.flatnonzero(np.isfinite(found[:, 0]))
        own = Split(0, split.fold, split.train, split.validation, known)
        return UnitResult(as_predictions(fold.samples, [own], found[None]), extras)

    def _folds(self, arm: Arm) -> list[HeadFold]:
        """The folds of the first repeat."""
        samples = self.samples(arm)
        splits = draw_folds(samples, self.config.split)
        first = [split for split in splits if split.repeat == 0]
        return as_folds(samples, first, self.tiles)

    def numbers(self, arm: Arm) -> list[int]:
        """Places of the folds of the first repeat, on which networks are trained."""
        return list(range(len(self._folds(arm))))


def as_predictions(
    samples: TileSamples, splits: Sequence[Split], found: np.ndarray
) -> Predictions:
    """Test tiles as bags of one tile.

    ``found``: probabilities [repeats, N, C].
    """
    rows = np.concatenate([split.test for split in splits])
    slides = np.array(list(samples.features.slide_ids), object)[samples.slide[rows]]
    places = samples.place[rows].tolist()
    names = [
        f"{slide} {samples.mpp:g} {row} {col}"
        for slide, (row, col) in zip(slides, places, strict=True)
    ]
    repeat = np.concatenate([np.full(len(s.test), s.repeat) for s in splits])
    return Predictions(
        samples.classes,
        bag=np.array(names, object),
        slide_id=slides,
        patient_id=np.array(samples.groups, object)[samples.group[rows]],
        target=samples.target[rows],
        fold=np.concatenate([np.full(len(s.test), s.fold) for s in splits]),
        repeat=repeat,
        probabilities=found[repeat, rows].astype(np.float64),
    )
