"""Training of a tile head on one fold, and its probabilities."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mshisto_ray.config import InputError
from mshisto_ray.learning.metrics import balanced_accuracy
from mshisto_ray.representation.mixup import draw_mix
from mshisto_ray.representation.normalise import Standardisation
from mshisto_ray.representation.preparation import (
    reduction_of,
)
from mshisto_ray.tile_classification.head.config import TileModelConfig
from mshisto_ray.tile_classification.head.epochs import Epochs, release
from mshisto_ray.tile_classification.head.loss import FocalLoss, balanced_weights
from mshisto_ray.tile_classification.head.preparation import make_noise
from mshisto_ray.tile_classification.head.samples import TileSamples

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class TileModel:
    """A trained head with the preparation of its input.

    ``history``: per epoch ``loss``, and with validation ``val_balanced_accuracy``;
    ``epochs``: those trained up to its weights.
    """

    model: nn.Module
    prepare: Standardisation
    epochs: int
    history: tuple[dict[str, float], ...]


def make_model(config: TileModelConfig, dim: int, num_classes: int) -> nn.Sequential:
    """One dense layer, after hidden ones if there are any; untrained.

    ``dim``: of the raw embedding.
    """
    width = reduction_of(config.reduction, dim, num_classes).width
    layers: list[nn.Module] = []
    for size in config.hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        layers += [nn.Dropout(config.dropout)] if config.dropout else []
        width = size
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def fit_head(
    samples: TileSamples,
    prepare: Standardisation,
    train: np.ndarray,
    validation: np.ndarray,
    config: TileModelConfig,
    stream: Sequence[int],
    window: int,
    device: torch.device,
) -> TileModel:
    """Train one head.

    Args:
        samples: all tiles.
        prepare: of ``fit_preparation``, on ``train``.
        train: tiles to learn from, sorted.
        validation: tiles that choose the epoch, sorted; none: the last one is kept.
        config: head and training.
        stream: with ``config.seed`` decides all randomness.
        window: tiles in memory at once.
        device: where to train.

    Raises:
        InputError: the loss is not finite any more.
    """
    words = np.random.SeedSequence([config.seed, *stream]).generate_state(3, np.uint64)
    rng = np.random.default_rng(int(words[0]))
    generator = torch.Generator(device).manual_seed(int(words[1] >> 1))
    prepare = prepare.to(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(words[2] >> 1))
        model = make_model(config, samples.features.dim, len(samples.classes))
        trainer = _Trainer(samples, prepare, train, config, window, model.to(device))

        def score() -> float | None:
            if config.patience is None or not len(validation):
                return None
            found = predict_tiles(samples, model, prepare, validation)
            return balanced_accuracy(found, samples.target[validation])

        epochs, history = _train(trainer, score, rng, generator)
    cpu = torch.device("cpu")
    return TileModel(model.to(cpu).eval(), prepare.to(cpu), epochs, history)


def _train(
    trainer: _Trainer,
    score: Callable[[], float | None],
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[int, tuple[dict[str, float], ...]]:
    """Train until the score stays below its best; return to the best weights.

    ``score``: of the weights as they are; None: all epochs are trained.

    Returns:
        Epochs of the final weights, and the history.
    """
    config, history = trainer.config, []
    best, kept, weights = -math.inf, 0, None
    for epoch in range(1, config.epochs + 1):
        record = {"loss": trainer.epoch(rng, generator)}
        if not math.isfinite(record["loss"]):
            raise InputError(
                f"training diverged in epoch {epoch} (the loss is "
                f"{record['loss']}): lower lr, now {config.lr:g}"
            )
        history.append(record)
        found = score()
        if found is None:
            continue
        record["val_balanced_accuracy"] = found
        if found > best:
            best, kept = found, epoch
            weights = copy.deepcopy(trainer.model.state_dict())
        elif config.patience is not None and epoch - kept >= config.patience:
            break
    if weights is not None:
        trainer.model.load_state_dict(weights)
    return kept or len(history), tuple(history)


def predict_tiles(
    samples: TileSamples,
    model: nn.Module,
    prepare: Standardisation,
    index: np.ndarray,
) -> np.ndarray:
    """Probabilities [n, C] of the samples at ``index`` (sorted), float32."""
    model.eval()
    device = next(model.parameters()).device
    parts = [np.zeros((0, len(samples.classes)), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(index), _ROWS_AT_ONCE):
            values = samples.read(index[start : start + _ROWS_AT_ONCE])
            logits = model(prepare(torch.from_numpy(values).to(device)))
            parts.append(logits.softmax(1).cpu().numpy())
            release(samples)
    return np.concatenate(parts)


class _Trainer:
    """Model, optimiser, noise and tiles of one fold; runs an epoch."""

    def __init__(
        self,
        samples: TileSamples,
        prepare: Standardisation,
        train: np.ndarray,
        config: TileModelConfig,
        window: int,
        model: nn.Module,
    ):
        self.model, self._prepare, self.config = model, prepare, config
        self._device = next(model.parameters()).device
        balanced = config.draws == "balanced"
        self._epochs = Epochs(samples, train, window, balanced)
        self._noise = make_noise(samples, prepare, train, config)
        weights = None
        if config.class_weights == "balanced":
            target = torch.from_numpy(samples.target[train])
            weights = balanced_weights(target, len(samples.classes))
        self._loss = FocalLoss(config.gamma, weights).to(self._device)
        self._optimiser = torch.optim.Adam(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self._step, steps = 0, -(-len(train) // config.batch_size) * config.epochs
        self._rates = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimiser, max(steps, 1)
        )

    def epoch(self, rng: np.random.Generator, generator: torch.Generator) -> float:
        """Train on every tile once; return the mean loss."""
        self.model.train()
        total, count = torch.zeros((), device=self._device), 0
        for values, codes in self._epochs.batches(self.config.batch_size, rng):
            h = self._prepare(torch.from_numpy(values).to(self._device))
            target = torch.from_numpy(codes).to(self._device)
            loss = self._loss_of(h, target, rng, generator)
            self._optimiser.zero_grad()
            loss.backward()
            self._optimiser.step()
            self._rates.step()
            total += loss.detach() * len(codes)
            count += len(codes)
        return float(total) / max(count, 1)

    def _loss_of(
        self,
        h: torch.Tensor,
        target: torch.Tensor,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """The loss of a batch, mixed where that is wanted, then disturbed."""
        if not self.config.mixup:
            return self._loss(self.model(self._noise(h, generator)), target)
        mix = draw_mix(self.config.mixup, len(h), rng).to(self._device)
        logits = self.model(self._noise(mix.values(h), generator))
        return mix.loss(lambda targets: self._loss(logits, targets), target)
