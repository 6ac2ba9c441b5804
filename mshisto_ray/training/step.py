"""One optimisation step on any device; steps without finite gradients are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mshisto_ray.backbone.precision import resolve_precision
from mshisto_ray.config import InputError
from mshisto_ray.training.augment import augment, draw_parameters
from mshisto_ray.training.clock import Clock
from mshisto_ray.training.config import TrainingConfig
from mshisto_ray.training.joint_batch import backward_in_chunks
from mshisto_ray.training.model import ContrastiveModel
from mshisto_ray.training.optimiser import learning_rate, make_optimiser

# Consecutive steps without a finite gradient after which training ends.
_MOST_SKIPPED = 10


@dataclass(frozen=True)
class Stepped:
    """A step's loss, its projections [M, P] (float32), and whether it was taken."""

    loss: float
    projections: torch.Tensor
    taken: bool


@dataclass(frozen=True)
class Workers:
    """How several workers train one network; see ``joint_batch``.

    Attributes:
        gather: this worker's projections to those of the whole batch, with a gradient
            for its own part.
        wrap: the model as DistributedDataParallel, for the forward pass.
    """

    gather: Callable[[torch.Tensor], torch.Tensor]
    wrap: Callable[[nn.Module], nn.Module]


class Stepper:
    """Takes optimisation steps.

    Args:
        model: trained in place; on its device.
        loss: of the joint batch's projections and targets; what it keeps of them
            (``remember``) it learns after a step that was taken.
        config: of the training.
        workers: None: this is the only one.
        clock: times the phases of steps.
    """

    def __init__(
        self,
        model: ContrastiveModel,
        loss: nn.Module,
        config: TrainingConfig,
        workers: Workers | None = None,
        clock: Clock | None = None,
    ):
        self.model = model
        self.optimiser = make_optimiser(model, config.optimiser)
        self.skipped = 0
        self._loss = loss
        self._config = config
        self._device = next(model.parameters()).device
        mean, std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1)
            for v in (config.mean, config.std)
        )
        self._mean, self._std = mean, std
        precision = resolve_precision(config.run.precision, self._device.type)
        self._half = precision == "bfloat16"
        forward = workers.wrap(model) if workers else model
        self._forward = torch.compile(forward) if config.run.compile else forward
        self._no_sync = getattr(forward, "no_sync", nullcontext)
        self._gather = workers.gather if workers else None
        self._clock = clock or Clock(self._device)
        self._in_a_row = 0

    def __call__(
        self,
        tiles: torch.Tensor,
        targets: Sequence[torch.Tensor],
        seed: int,
        step: int,
        first: int = 0,
    ) -> Stepped:
        """Train on one batch.

        Args:
            tiles: this worker's images, uint8 [m, H, W, 3].
            targets: arguments of the loss after projections, of the whole batch.
            seed: of the augmentation.
            step: number of the step.
            first: index of this worker's first image in the whole batch.

        Raises:
            InputError: the gradient was not finite too often in a row, or the weights
                overflowed.
        """
        self.model.train()
        tiles = tiles.to(self._device, non_blocking=True)
        targets = [t.to(self._device, non_blocking=True) for t in targets]
        self._clock.mark("copy")
        kept = [buffer.clone() for buffer in self.model.buffers()]
        self.optimiser.zero_grad(set_to_none=True)

        def project(part: torch.Tensor) -> torch.Tensor:
            images = self._images(tiles, int(part[0]), len(part), seed, step, first)
            with self.autocast(), self._seeded(seed, step, first + int(part[0])):
                return self._forward(images)

        loss, whole = self._backward(project, len(tiles), targets)
        taken = self._is_finite(loss)
        if taken:
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(
                    self._config.optimiser, step, self._config.steps
                )
            self.optimiser.step()
            self._check_weights(step)
            self._in_a_row = 0
            if remember := getattr(self._loss, "remember", None):
                remember(whole.detach(), *targets)
        else:
            self._skip(kept, loss, step)
        stepped = Stepped(loss.item(), whole.detach().float(), taken)
        self._clock.mark("compute")
        return stepped

    def autocast(self) -> torch.autocast:
        """A context with the precision of a forward pass."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._half)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise images [B, 3, H, W] in [0, 1] to the network's input."""
        images = (images - self._mean) / self._std
        return images.contiguous(memory_format=torch.channels_last)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed training needs except the number of the next step."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "skipped": [self.skipped, self._in_a_row],
            "loss": self._loss.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of ``state_dict``."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.skipped, self._in_a_row = state["skipped"]
        self._loss.load_state_dict(state.get("loss", {}))  # earlier versions: none

    def _backward(
        self,
        project: Callable[[torch.Tensor], torch.Tensor],
        num: int,
        targets: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Backpropagate; returns the batch's loss and all workers' projections."""
        gathered: list[torch.Tensor] = []

        def joint_loss(own: torch.Tensor) -> torch.Tensor:
            self._clock.mark("compute")
            gathered.append(self._gather(own) if self._gather else own)
            self._clock.mark("communication")
            return self._loss(gathered[-1], *targets)

        parts = list(torch.arange(num).split(self._config.run.micro_batch or num))
        if len(parts) > 1:
            loss = backward_in_chunks(project, parts, joint_loss, self._no_sync)
        else:
            loss = joint_loss(project(parts[0]))
            loss.backward()
        self._clock.mark_backward()
        return loss, gathered[-1]

    def _images(
        self,
        tiles: torch.Tensor,
        start: int,
        num: int,
        seed: int,
        step: int,
        first: int,
    ) -> torch.Tensor:
        """The network's input of ``num`` of the tiles, from ``start`` on."""
        stop = first + start + num
        settings = self._config.augment
        parameters = draw_parameters(settings, seed, step, stop, self._device)
        own = parameters.part(slice(first + start, None))
        part = tiles[start : start + num]
        return self.normalise(augment(part, settings, own))

    @contextmanager
    def _seeded(self, seed: int, step: int, place: int) -> Iterator[None]:
        """Seed dropout by step and place, so that a forward pass can be repeated."""
        own = np.random.SeedSequence([seed, step, place]).generate_state(1)
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(own[0]))
            yield

    def _is_finite(self, loss: torch.Tensor) -> bool:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        # A norm can overflow where its terms do not: check every number.
        found = torch.stack([g.isfinite().all() for g in gradients]).all()
        return bool(found & loss.isfinite())

    def _check_weights(self, step: int) -> None:
        """End a training whose step overflowed; the last checkpoint is kept."""
        found = [p.detach().isfinite().all() for p in self.model.parameters()]
        if not torch.stack(found).all():
            raise InputError(
                f"training diverged: step {step} made weights too large for a number; "
                f"lower optimiser.lr, now {self._config.optimiser.lr:g}"
            )

    def _skip(self, kept: list[torch.Tensor], loss: torch.Tensor, step: int) -> None:
        """Keep the weights; restore the statistics that the forward pass changed."""
        with torch.no_grad():
            for buffer, old in zip(self.model.buffers(), kept, strict=True):
                buffer.copy_(old)
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= _MOST_SKIPPED:
            raise InputError(
                f"training diverged: {self._in_a_row} steps in a row up to step {step} "
                f"had no finite gradient (loss {loss.item():g}) and were skipped. "
                f"Lower optimiser.lr, now {self._config.optimiser.lr:g}, or "
                "use run.precision: float32"
            )
