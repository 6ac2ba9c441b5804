"""The training loop of pretraining and fine-tuning, which writes the best encoder.

A ``TrainingTask`` defines the loss, the batches and the metrics. This module does all
else: workers that share a batch, timing, checkpoints, resuming after a kill.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mshisto_ray.backbone.transform import InputTransform
from mshisto_ray.encoders import save_encoder
from mshisto_ray.store.learned_labels import keep_beside
from mshisto_ray.store.tiles import TileDirectory
from mshisto_ray.training.best import Best
from mshisto_ray.training.clock import Clock, bounded_by, time_gradients
from mshisto_ray.training.config import TrainingConfig
from mshisto_ray.training.curve import METRICS, write_curve
from mshisto_ray.training.feeding import Feeder
from mshisto_ray.training.joint_batch import Share, gather
from mshisto_ray.training.model import check_norm, join_norm
from mshisto_ray.training.pixel_cache import cached
from mshisto_ray.training.reading import IndexedTileReader
from mshisto_ray.training.step import Stepper, Workers
from mshisto_ray.training.task import Trained, TrainingTask, make_model
from mshisto_ray.training.window import Window

ENCODER, STATE = "encoder", "state.pt"
Say = Callable[[str], None]


class Training:
    """One worker's part of a training.

    The first worker validates and writes; all of them load the state to resume from.
    """

    def __init__(
        self,
        config: TrainingConfig,
        tiles: TileDirectory,
        task: TrainingTask,
        say: Say,
        share: Share,
        device: torch.device | None,
    ):
        self._config, self._task, self._share = config, task, share
        self._say = say if share.rank == 0 else lambda _: None
        self._device = device or _device()
        self._tile_px = int(tiles.manifest.recipe["tile_px"])
        self._clock = Clock(self._device)
        self._stepper = self._make_stepper()
        self._own = share.part(config.batch_size, task.together)
        reader = IndexedTileReader(tiles, task.index, config.runtime.readers)
        self._feeder = Feeder(
            task.index,
            cached(reader, len(task.index), self._tile_px, config.runtime.pixel_cache),
            task.make_source,
            config,
            self._own,
            self._clock,
        )
        self._best = Best(task.best)
        self._best_metrics: dict[str, float] = {}
        self._history: list[dict[str, float]] = []

    def run(self) -> Trained:
        """Train to the last step; an unfinished run is resumed."""
        config, task = self._config, self._task
        start = self._resume()
        if start == 0 and task.validate:
            metrics = task.validate(self._stepper, task.loss)
            if task.best.startswith("val_"):
                self._best.require(metrics)
            self._record(metrics, 0)
        window = Window()
        self._clock.start()
        for step, feed in enumerate(self._feeder(start, config.steps), start):
            stepped = self._stepper(
                feed.images, feed.targets, config.seed, step, self._own.start
            )
            window.add(feed, stepped)
            done = step + 1
            is_due = done % task.every == 0 or done == config.steps
            if is_due and self._share.rank == 0:
                metrics = window.metrics(feed, stepped, task.monitor, self._clock)
                metrics["skipped_steps"] = float(self._stepper.skipped)
                if task.validate:
                    metrics |= task.validate(self._stepper, task.loss)
                self._record(metrics, done)
                self._save(done)
                window = Window()
                self._clock.start()
        if start < config.steps:
            self._say(f"{task.name}: time per step: {bounded_by(self._clock.total)}")
        return Trained(config.out / ENCODER, self._best_metrics, self._history)

    def _make_stepper(self) -> Stepper:
        config, several = self._config, self._share.workers > 1
        norm = self._task.model.norm
        check_norm(norm, self._share.workers, self._device.type)
        model = make_model(config, self._task.model, self._tile_px).to(self._device)
        if several and norm == "sync":
            model = join_norm(model)
        if config.run.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._task.loss.to(self._device)
        workers = Workers(gather, self._in_parallel) if several else None
        return Stepper(model, self._task.loss, config, workers, self._clock)

    def _in_parallel(self, model: nn.Module) -> DistributedDataParallel:
        _freeze_unused(model, self._tile_px, self._device)
        parallel = DistributedDataParallel(model)
        time_gradients(parallel, self._clock)
        return parallel

    def _record(self, metrics: dict[str, float], step: int) -> None:
        """Record and print the metrics; write the encoder if it is the best."""
        record = {"step": float(step), **metrics}
        self._history.append(record)
        shown = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
        self._say(f"{self._task.name}: step {step}/{self._config.steps}  {shown}")
        self._task.judge(metrics, step)
        if step and (not self._task.validate or self._best.improves(metrics)):
            self._best_metrics = record
            self._write_encoder()

    def _write_encoder(self) -> None:
        config, network = self._config, self._task.model
        transform = InputTransform(config.mean, config.std, self._tile_px, "as_is")
        model = self._stepper.model
        save_encoder(
            config.out / ENCODER,
            model.backbone,
            transform,
            {"model": network.backbone, "options": network.options},
            model.dim,
            self._task.index.scales,
            self._tile_px,
            (model.projection, model.shape),
        )
        keep_beside(config.out / ENCODER)

    def _save(self, step: int) -> None:
        """Save everything that a resumed run needs, atomically."""
        path = self._config.out / STATE
        state = {
            "step": step,
            "threads": torch.get_num_threads(),
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
        """Load the state of an unfinished run, if any; returns the next step."""
        path = self._config.out / STATE
        if not path.exists():
            return 0
        state = torch.load(path, map_location=self._device, weights_only=True)
        self._stepper.load_state_dict(state)
        self._best.value, self._best_metrics = state["best"], state["best_metrics"]
        self._history = state["history"]
        # Sums over images are rounded by their number: weights must not depend on it.
        torch.set_num_threads(state.get("threads", torch.get_num_threads()))
        self._say(f"{self._task.name}: resuming after step {state['step']}")
        return int(state["step"])


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _freeze_unused(model: nn.Module, side: int, device: torch.device) -> None:
    """Freeze parameters without a gradient, for which workers would wait.

    A backbone may have layers after the maps that a head takes.
    """
    was_training = model.training
    model.eval()  # running statistics are not updated
    model(torch.zeros(2, 3, side, side, device=device)).sum().backward()
    for parameter in model.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    model.train(was_training)
