"""What the encoder has learnt, on patients that it is not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mshisto_ray import components
from mshisto_ray.components import Part
from mshisto_ray.config import Config, InputError, option
from mshisto_ray.contrastive.draws import uniforms
from mshisto_ray.contrastive.feeding import PAIRS
from mshisto_ray.contrastive.monitor import (
    collapse,
    near_far_auc,
    pair_distances,
    recall_at,
    spread,
)
from mshisto_ray.contrastive.pairs import multi_scale, spatial
from mshisto_ray.contrastive.pairs._source import draw_batch
from mshisto_ray.contrastive.reading import TileReader
from mshisto_ray.contrastive.step import Stepper
from mshisto_ray.contrastive.tile_index import UNKNOWN, TileIndex
from mshisto_ray.evaluation.descriptor_distance import effective_rank

_BATCH = 64
_NEIGHBOURS = 10


class ValidationConfig(Config):
    """Held-out patients and what is measured on them."""

    share: float = option(0.2, "of the patients", ge=0, lt=1)
    every: int = option(100, "steps between two validations", "steps", ge=1)
    near_um: float = option(300.0, "of the near-far AUC", "um", gt=0)
    far_um: float = option(1500.0, "of the near-far AUC", "um", gt=0)
    pairs: int = option(400, "drawn of each kind", ge=2)


def split_patients(
    index: TileIndex, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of training and of validation patients; no patient is in both.

    Of every class the share is held out, at least one patient where there are two.

    Raises:
        InputError: there are too few patients.
    """
    tiles = np.arange(len(index))
    num = int(index.patient.max(initial=0)) + 1
    if not share:
        return tiles, tiles[:0]
    if num < 2:
        raise InputError(
            "validation.share: the cohort has one patient; add patients or set it to 0"
        )
    uniform = uniforms(seed, "monitor", 0, num, 1)[:, 0]
    held_out: list[int] = []
    classes = _patient_classes(index)
    for cls in np.unique(classes):
        own = np.flatnonzero(classes == cls)
        own = own[np.argsort(uniform[own])]
        held_out += own[: min(len(own) - 1, max(1, round(share * len(own))))].tolist()
    if not held_out:
        raise InputError(
            "validation.share: every class has one patient, who cannot be both trained "
            "on and held out; add patients or set it to 0"
        )
    is_held_out = np.isin(index.patient[index.slide(tiles)], held_out)
    return tiles[~is_held_out], tiles[is_held_out]


def _patient_classes(index: TileIndex) -> np.ndarray:
    """A class of each patient: that of one of the slides."""
    classes = np.full(int(index.patient.max()) + 1, UNKNOWN)
    classes[index.patient] = index.label
    return classes


class Validation:
    """A fixed sample of pairs of held-out patients, read once.

    Raises InputError when called on a model whose embeddings are not finite.

    Measures (all on embeddings but the loss): ``val_near_far_auc``, the mean over
    scales, ``val_recall_at_10`` of a tile's finer tile among those of other places,
    ``val_rank``, ``val_spread`` and ``val_loss``. What the held-out slides are too
    small or too few for is left out.
    """

    def __init__(
        self,
        index: TileIndex,
        reader: TileReader,
        tiles: np.ndarray,
        config: ValidationConfig,
        pairs: Part,
        batch_size: int,
    ):
        part = index.subset(tiles)
        self.notes: list[str] = []
        drawn = [self._draw_near_far(part, config, mpp) for mpp in part.scales]
        self._near_far = [pairs for pairs in drawn if len(pairs)]
        self._places = self._draw_places(part, config.pairs)
        self._batch = self._draw_batch(part, pairs, batch_size)
        drawn = [*self._near_far, *self._places]
        if self._batch:
            drawn.append(self._batch.tiles)
        used = np.unique(np.concatenate([d.reshape(-1) for d in drawn]))
        self._held = reader(tiles[used])
        self._at = np.searchsorted(used, np.arange(len(part)))

    def __call__(self, stepper: Stepper, loss: torch.nn.Module) -> dict[str, float]:
        """Measure the model as it is."""
        embeddings, projections = self._forward(stepper)
        if not (np.isfinite(embeddings).all() and np.isfinite(projections).all()):
            raise InputError(
                "training diverged: embeddings of held-out tiles are not finite; lower "
                "optimiser.lr"
            )
        metrics: dict[str, float] = {
            "val_rank": effective_rank(embeddings),
            "val_spread": spread(embeddings),
        }
        apart = [self._apart(embeddings, pairs) for pairs in self._near_far]
        if apart:
            aucs = [near_far_auc(each[::2], each[1::2]) for each in apart]
            metrics["val_near_far_auc"] = float(np.mean(aucs))
        recalls = [
            recall_at(
                self._of(embeddings, main), self._of(embeddings, finer), _NEIGHBOURS
            )
            for main, finer in (places.T for places in self._places)
        ]
        if recalls:
            metrics["val_recall_at_10"] = float(np.mean(recalls))
        if self._batch:
            z = torch.from_numpy(self._of(projections, self._batch.tiles))
            relations = (self._batch.positive, self._batch.negative)
            value = loss(z, *(torch.from_numpy(r) for r in relations))
            metrics["val_loss"] = float(value)
        told = collapse({"spread": metrics["val_spread"], "rank": metrics["val_rank"]})
        return {**metrics, "val_collapsed": float(told is not None)}

    @torch.inference_mode()
    def _forward(self, stepper: Stepper) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings [N, D] and projections [N, P] of the tiles, float32."""
        model = stepper.model.eval()
        device = next(model.parameters()).device
        embeddings, projections = [], []
        for start in range(0, len(self._held.pixels), _BATCH):
            tiles = torch.from_numpy(self._held.pixels[start : start + _BATCH])
            images = tiles.to(device).permute(0, 3, 1, 2).float() / 255
            images = stepper.normalise(images)
            with stepper.autocast():
                parts = model.embed_and_project(images)
            embeddings.append(parts[0].float().cpu())
            projections.append(parts[1].float().cpu())
        return torch.cat(embeddings).numpy(), torch.cat(projections).numpy()

    def _of(self, values: np.ndarray, tiles: np.ndarray) -> np.ndarray:
        return values[self._at[tiles]]

    def _apart(self, values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        first, second = (self._of(values, column) for column in pairs.T)
        return pair_distances(first, second)

    def _draw_near_far(
        self, part: TileIndex, config: ValidationConfig, mpp: float
    ) -> np.ndarray:
        """Pairs [P, 2], near at even places and far at odd ones."""
        try:
            source = spatial.build(
                part,
                near_um=config.near_um,
                far_um=config.far_um,
                mpp=mpp,
            )
            source.check(config.pairs)
        except InputError as error:
            self.notes.append(f"no near-far AUC at {mpp:g} um/px: {error}")
            return np.zeros((0, 2), np.int64)
        pairs = source.draw(0, 0, np.arange(2 * config.pairs))
        whole = (pairs[:, 0] != pairs[:, 1]).reshape(-1, 2).all(axis=1)
        return pairs[np.repeat(whole, 2)]

    def _draw_places(self, part: TileIndex, num: int) -> list[np.ndarray]:
        """Per pair of scales, places [P, 2] without repetition: tile, finer tile."""
        plain = replace(part, label=np.full(len(part.label), UNKNOWN))
        found = []
        for fine, coarse in zip(part.scales, part.scales[1:], strict=False):
            source = multi_scale.build(
                plain, scales=(fine, coarse), neutral="negative", places_per_slide=1
            )
            try:
                source.check(num)
            except InputError as error:
                self.notes.append(f"no recall at {coarse:g} um/px: {error}")
                continue
            pairs = source.draw(0, 0, np.arange(num))
            pairs = pairs[pairs[:, 0] != pairs[:, 1]]
            found.append(pairs[np.unique(pairs[:, 0], return_index=True)[1]])
        # With no more places than neighbours every target would be a hit.
        return [places for places in found if len(places) > 2 * _NEIGHBOURS]

    def _draw_batch(self, part: TileIndex, pairs: Part, batch_size: int):
        source = components.build(PAIRS, pairs, part)
        try:
            source.check(batch_size // 2)
        except InputError as error:
            self.notes.append(f"no validation loss: {error}")
            return None
        return draw_batch(source, 0, 0, batch_size // 2)
