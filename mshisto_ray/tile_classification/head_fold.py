"""A fold of a tile head's cross-validation, for a network trained on its pixels.

So that both are compared on the same tiles, of which neither has seen those it is
tested on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.encoders import Encoder
from mshisto_ray.learning.fold_means import of_folds, within_folds
from mshisto_ray.learning.result_files import PREDICTIONS, write_metrics
from mshisto_ray.learning.split import Split
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.tile_classification.head.config import TileHeadConfig
from mshisto_ray.tile_classification.head.run import (
    CONFIG,
    RESULT,
    as_numbers,
    draw_folds,
    measure,
    write_predictions,
)
from mshisto_ray.tile_classification.head.samples import TileSamples, read_samples
from mshisto_ray.tile_classification.target import ClassifiedTiles
from mshisto_ray.training.reading import IndexedTileReader
from mshisto_ray.training.tile_index import UNKNOWN, read_index

_AT_ONCE = 128


@dataclass(frozen=True)
class HeadFold:
    """A fold of N samples of a tile head.

    ``whole``: their tiles, all classes known; ``number``: of each sample's tile in it.
    """

    samples: TileSamples
    split: Split
    whole: ClassifiedTiles
    number: np.ndarray

    def tiles(self, samples: np.ndarray) -> np.ndarray:
        """The tiles of samples, sorted."""
        return np.sort(self.number[samples])


def read_folds(path: Path, tiles: TileDirectory) -> list[HeadFold]:
    """The folds of a directory that ``tile_head`` wrote, with tiles to read.

    Raises:
        InputError: not such a directory; its embeddings have changed or are gone; a
            tile of it is not among ``tiles``.
    """
    file = path / RESULT / CONFIG
    if not file.is_file():
        raise InputError(
            f"against.head: no {RESULT}/{CONFIG} in {path}: give a directory that "
            "jobs/tile_head.py has finished"
        )
    raw = configs.read_yaml(file)
    names = set(TileHeadConfig.model_fields)
    config = configs.validate(
        TileHeadConfig, {key: value for key, value in raw.items() if key in names}
    )
    samples = read_samples(config)
    return as_folds(samples, draw_folds(samples, config.split), tiles)


def as_folds(
    samples: TileSamples, splits: list[Split], tiles: TileDirectory
) -> list[HeadFold]:
    """Folds of samples, with their tiles.

    Raises:
        InputError: a tile of the samples is not among ``tiles``.
    """
    slide_ids = list(samples.features.slide_ids)
    absent = sorted(set(slide_ids) - set(tiles.slides))
    if absent:
        raise InputError(
            f"tiles: slide {absent[0]!r} of the head is not in {tiles.path}"
        )
    index = read_index(tiles, slide_ids, {}, [samples.mpp])
    row, col = samples.place.T
    start, stop = index.run(samples.slide, row, col, col)
    if (stop - start != 1).any():
        raise InputError(
            f"tiles: {(stop - start != 1).sum():,} of {len(samples):,} tiles of the "
            f"head are not in {tiles.path} at {samples.mpp:g} um/px: give the tiles "
            "that were embedded"
        )
    kept = np.sort(start)
    number = np.searchsorted(kept, start)
    code = np.full(len(kept), UNKNOWN)
    code[number] = samples.target
    whole = ClassifiedTiles(index.subset(kept), code, samples.classes, by_slide=False)
    return [HeadFold(samples, split, whole, number) for split in splits]


def predict_fold(
    fold: HeadFold, tiles: TileDirectory, encoder: Encoder, readers: int
) -> np.ndarray:
    """Probabilities [N, C] of the fold's test samples; NaN: not tested or unreadable.

    ``encoder``: gives a logit a class.
    """
    found = np.full((len(fold.samples), len(fold.samples.classes)), np.nan, np.float32)
    reader = IndexedTileReader(tiles, fold.whole.index, readers)
    order = fold.split.test[np.argsort(fold.number[fold.split.test])]
    for first in range(0, len(order), _AT_ONCE):
        rows = order[first : first + _AT_ONCE]
        held = reader(fold.number[rows])
        logits = encoder(held.pixels).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        found[rows[held.readable]] = shares[held.readable]
    return found


def write_folds(
    folder: Path, folds: Sequence[HeadFold], found: Sequence[np.ndarray]
) -> dict[str, float]:
    """Write predictions and metrics of folds as ``tile_head`` does; return the latter.

    ``found``: probabilities [N, C] of each fold's test samples, NaN elsewhere.
    """
    samples, splits = folds[0].samples, [fold.split for fold in folds]
    shape = (1 + max(split.repeat for split in splits), *found[0].shape)
    whole = np.full(shape, np.nan, np.float32)
    for split, own in zip(splits, found, strict=True):
        known = np.isfinite(own[:, 0])
        whole[split.repeat, known] = own[known]
    used = sorted({split.repeat for split in splits})
    metrics = as_numbers(measure(samples, whole[used]))
    tested = [np.isfinite(own[:, 0]) for own in found]
    metrics |= of_folds(
        within_folds(
            np.concatenate(
                [own[kept] for own, kept in zip(found, tested, strict=True)]
            ),
            np.concatenate([samples.target[kept] for kept in tested]),
            np.repeat(np.arange(len(found)), [kept.sum() for kept in tested]),
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(folder / PREDICTIONS, samples, splits, whole)
    write_metrics(folder, metrics)
    return metrics
