"""Pretraining in one process: from a tiles directory to an encoder directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mshisto_ray import components
from mshisto_ray.config import InputError
from mshisto_ray.contrastive.curve import METRICS, write_curve
from mshisto_ray.contrastive.feeding import Feeder
from mshisto_ray.contrastive.joint_batch import WHOLE, Share, gather
from mshisto_ray.contrastive.model import (
    build_model,
    check_micro_batch,
    check_norm,
    join_norm,
)
from mshisto_ray.contrastive.monitor import Best, collapse
from mshisto_ray.contrastive.phases import Clock, bounded_by, time_gradients
from mshisto_ray.contrastive.pixel_cache import cached
from mshisto_ray.contrastive.pretrain_config import LOSSES, PretrainConfig, load_index
from mshisto_ray.contrastive.reading import TileReader, check_slides
from mshisto_ray.contrastive.step import Stepper
from mshisto_ray.contrastive.tile_index import TileIndex
from mshisto_ray.contrastive.validation import Validation, split_patients
from mshisto_ray.contrastive.verification import sample_verification
from mshisto_ray.contrastive.window import Window
from mshisto_ray.encoders import checkpoint
from mshisto_ray.encoders._encoder import resolve_precision
from mshisto_ray.encoders._network import InputTransform
from mshisto_ray.store.manifest import open_stage
from mshisto_ray.store.tiles import TileDirectory

STAGE = "pretraining"
ENCODER, STATE = "encoder", "state.pt"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Pretrained:
    """The best encoder's directory, its metrics, and all that were measured.

    ``history``: one record per validation, the first before any step: what the
    network's first weights are worth.
    """

    encoder: Path
    metrics: dict[str, float]
    history: list[dict[str, float]]


def pretrain(config: PretrainConfig, say: Say = print) -> Pretrained:
    """Train, keep the best encoder, go on where a former run stopped.

    Raises:
        InputError: see ``load_index``; training diverged, or collapsed with
            ``on_collapse: stop``.
    """
    tiles, index = load_index(config)
    check_slides(tiles)
    recorded = config.model_dump(mode="json")
    with open_stage(config.out, STAGE, recipe_of(config, tiles), recorded):
        return pretrain_share(config, tiles, index, say)


def recipe_of(config: PretrainConfig, tiles: TileDirectory) -> dict[str, Any]:
    """What decides the weights."""
    others = set(type(config).model_fields) - set(PretrainConfig.model_fields)
    left_out = {"out", "run", "readers", "pixel_cache", "tiles"} | others
    recipe = config.model_dump(mode="json", exclude=left_out)
    return recipe | {"tiles": tiles.manifest.digest}


def pretrain_share(
    config: PretrainConfig,
    tiles: TileDirectory,
    index: TileIndex,
    say: Say,
    share: Share = WHOLE,
    device: torch.device | None = None,
) -> Pretrained:
    """One worker's part of ``pretrain``, in a process group if there are several.

    The first worker validates and writes; all of them read where to go on.
    """
    return _Pretraining(config, tiles, index, say, share, device).run()


class _Pretraining:
    def __init__(
        self,
        config: PretrainConfig,
        tiles: TileDirectory,
        index: TileIndex,
        say: Say,
        share: Share,
        device: torch.device | None,
    ):
        self._config, self._share = config, share
        self._say = say if share.rank == 0 else lambda _: None
        self._device = device or _device(config.run.device)
        self._tile_px = int(tiles.manifest.recipe["tile_px"])
        self._scales = index.scales
        reader = TileReader(tiles, index, config.readers)
        train, held_out = split_patients(index, config.validation.share, config.seed)
        self._loss = components.build(LOSSES, config.loss)
        self._clock = Clock(self._device)
        self._stepper = self._make_stepper()
        own = index.subset(train)
        plain = TileReader(tiles, own, config.readers)
        self._feeder = Feeder(
            own,
            cached(plain, len(own), self._tile_px, config.pixel_cache),
            config.pairs,
            config.batch_size,
            config.blocks,
            config.seed,
            sample_verification(config.verify, config.pairs, own, plain),
            share,
            self._device,
            self._clock,
        )
        self._validation = None
        if len(held_out) and share.rank == 0:
            settings = config.validation, config.pairs, config.batch_size
            self._validation = Validation(index, reader, held_out, *settings)
            for note in self._validation.notes:
                self._say(f"pretrain: {note}")
        self._best = Best(config.best)
        self._best_metrics: dict[str, float] = {}
        self._history: list[dict[str, float]] = []

    def run(self) -> Pretrained:
        config, first = self._config, self._share.part(self._config.batch_size).start
        start = self._resume()
        if start == 0 and self._validation:
            metrics = self._validation(self._stepper, self._loss)
            if config.best.startswith("val_"):
                self._best.require(metrics)
            self._record(metrics, 0)
        window = Window()
        self._clock.start()
        for step, feed in enumerate(self._feeder(start, config.steps), start):
            stepped = self._stepper(
                feed.images,
                (torch.from_numpy(feed.positive), torch.from_numpy(feed.negative)),
                config.seed,
                step,
                first,
            )
            window.add(feed, stepped)
            done = step + 1
            is_due = done % config.validation.every == 0 or done == config.steps
            if is_due and self._share.rank == 0:
                metrics = window.metrics(feed, stepped, self._loss, self._clock)
                metrics["skipped_steps"] = float(self._stepper.skipped)
                if self._validation:
                    metrics |= self._validation(self._stepper, self._loss)
                self._record(metrics, done)
                self._save(done)
                window = Window()
                self._clock.start()
        if start < config.steps:
            self._say(f"pretrain: of a step, {bounded_by(self._clock.total)}")
        folder = config.out / ENCODER
        return Pretrained(folder, self._best_metrics, self._history)

    def _make_stepper(self) -> Stepper:
        config, several = self._config, self._share.workers > 1
        check_norm(config.model.norm, self._share.workers, self._device.type)
        model = build_model(config.model, self._tile_px, config.seed).to(self._device)
        check_micro_batch(model, config.run.micro_batch)
        if several and config.model.norm == "sync":
            model = join_norm(model)
        if config.run.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return Stepper(
            model,
            self._loss,
            config.optimiser,
            config.augment,
            config.steps,
            (config.mean, config.std),
            resolve_precision(config.run.precision, self._device.type),
            config.run.compile,
            config.run.micro_batch,
            gather if several else None,
            self._in_parallel if several else None,
            self._clock,
        )

    def _in_parallel(self, model: nn.Module) -> DistributedDataParallel:
        parallel = DistributedDataParallel(model)
        time_gradients(parallel, self._clock)
        return parallel

    def _record(self, metrics: dict[str, float], step: int) -> None:
        """Keep what was measured, the encoder if it is the best, and tell of it."""
        record = {"step": float(step), **metrics}
        self._history.append(record)
        shown = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
        self._say(f"pretrain: step {step}/{self._config.steps}  {shown}")
        told = collapse(metrics) if "spread" in metrics else None
        if told and step:
            message = f"{told} at step {step}: the embeddings say little of the tiles"
            advice = "lower optimiser.lr, raise the batch size, or take another loss"
            if self._config.on_collapse == "stop":
                raise InputError(f"collapse: {message}; {advice}")
            self._say(f"pretrain: warning: {message}; {advice}")
        if step and (not self._validation or self._best.improves(metrics)):
            self._best_metrics = record
            self._write_encoder()

    def _write_encoder(self) -> None:
        config = self._config
        transform = InputTransform(config.mean, config.std, self._tile_px, "as_is")
        told = {"model": config.model.backbone, "options": config.model.options}
        model = self._stepper.model
        checkpoint.save(
            config.out / ENCODER,
            model.backbone,
            transform,
            told,
            model.dim,
            self._scales,
            self._tile_px,
            (model.projection, model.shape),
        )

    def _save(self, step: int) -> None:
        """Everything that a resumed run needs, under one rename."""
        path = self._config.out / STATE
        state = {
            "step": step,
            "best": self._best.value,
            "best_metrics": self._best_metrics,
            "history": self._history,
            **self._stepper.state_dict(),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)
        write_curve(self._config.out / METRICS, self._history)

    def _resume(self) -> int:
        """The step to go on with."""
        path = self._config.out / STATE
        if not path.exists():
            return 0
        state = torch.load(path, map_location=self._device, weights_only=True)
        self._stepper.load_state_dict(state)
        self._best.value, self._best_metrics = state["best"], state["best_metrics"]
        self._history = state["history"]
        self._say(f"pretrain: going on after step {state['step']}")
        return int(state["step"])


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
