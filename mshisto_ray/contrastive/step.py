"""One optimisation step: device-agnostic, and no number that is not finite gets in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.contrastive.augment import AugmentConfig, augment, draw_parameters
from mshisto_ray.contrastive.losses._loss import ContrastiveLoss
from mshisto_ray.contrastive.model import ContrastiveModel
from mshisto_ray.encoders._encoder import Precision

# Consecutive steps without a finite gradient after which training ends.
_MOST_SKIPPED = 10


class OptimiserConfig(Config):
    """Optimiser and course of its learning rate."""

    name: Literal["adamw", "adam", "sgd"] = option("adamw", "method")
    lr: float = option(1e-3, "learning rate", gt=0)
    weight_decay: float = option(1e-4, "weight decay (adam, sgd: L2 penalty)", ge=0)
    momentum: float = option(0.9, "of sgd; adam and adamw have their own", ge=0, lt=1)
    warmup_steps: int = option(0, "linear rise of the learning rate", "steps", ge=0)
    schedule: Literal["constant", "cosine"] = option(
        "cosine", "after the warm-up; cosine ends at 0"
    )
    decay: float = option(0.0, "learning rate times 1 / (1 + decay * step)", ge=0)


class RunConfig(Config):
    """How the arithmetic is done; none of it changes what is learnt but by rounding."""

    device: str = option("auto", "auto, cpu, cuda, cuda:1...")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "of the network's products; auto: bfloat16 where hardware has it"
    )
    channels_last: bool = option(True, "memory layout of convolutions")
    compile: bool = option(False, "torch.compile the network")


@dataclass(frozen=True)
class Stepped:
    """What a step did: its loss, its projections [M, P] (float32), if it was taken."""

    loss: float
    projections: torch.Tensor
    taken: bool


class Stepper:
    """Takes optimisation steps.

    ``gather`` turns this worker's projections into those of the whole batch, with a
    gradient to its own part; ``wrap`` then has to be DistributedDataParallel. See
    ``joint_batch``.

    Args:
        model: trained in place; on its device.
        loss: part of the losses family.
        optimiser: its settings.
        augmentation: what is done to the images.
        num_steps: of the whole training, for the learning rate.
        normalisation: mean and standard deviation per channel, on 0 to 1.
        precision: of the forward pass.
        compiled: whether to compile the model.
        gather: of projections; none with one worker.
        wrap: makes of the model what is called in the forward pass.
    """

    def __init__(
        self,
        model: ContrastiveModel,
        loss: ContrastiveLoss,
        optimiser: OptimiserConfig,
        augmentation: AugmentConfig,
        num_steps: int,
        normalisation: tuple[tuple[float, ...], tuple[float, ...]],
        precision: Precision,
        compiled: bool = False,
        gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ):
        self.model = model
        self.optimiser = make_optimiser(model, optimiser)
        self.skipped = 0
        self._loss = loss
        self._settings, self._num_steps = optimiser, num_steps
        self._augmentation = augmentation
        self._device = next(model.parameters()).device
        mean, std = (torch.tensor(v, device=self._device) for v in normalisation)
        self._mean, self._std = mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)
        self._half = precision == "bfloat16"
        forward = wrap(model) if wrap else model
        self._forward = torch.compile(forward) if compiled else forward
        self._gather = gather
        self._in_a_row = 0

    def __call__(
        self,
        tiles: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor,
        seed: int,
        step: int,
        first: int = 0,
    ) -> Stepped:
        """Train on one batch.

        Args:
            tiles: this worker's images, uint8 [m, H, W, 3].
            positive: bool [M, M] of the whole batch.
            negative: likewise.
            seed: of the augmentation.
            step: number of the step.
            first: place of this worker's first image in the whole batch.

        Raises:
            InputError: the gradient was not finite too often in a row, or the weights
                overflowed.
        """
        self.model.train()
        images = self._images(tiles, seed, step, first)
        kept = [buffer.clone() for buffer in self.model.buffers()]
        self.optimiser.zero_grad(set_to_none=True)
        with self.autocast():
            projections = self._forward(images)
        whole = self._gather(projections) if self._gather else projections
        loss = self._loss(whole, positive.to(self._device), negative.to(self._device))
        loss.backward()
        taken = self._is_finite(loss)
        if taken:
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(self._settings, step, self._num_steps)
            self.optimiser.step()
            self._check_weights(step)
            self._in_a_row = 0
        else:
            self._skip(kept, loss, step)
        return Stepped(loss.item(), whole.detach().float(), taken)

    def autocast(self) -> torch.autocast:
        """The precision of a forward pass."""
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._half)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] in [0, 1] to the network's input."""
        images = (images - self._mean) / self._std
        return images.contiguous(memory_format=torch.channels_last)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed training needs beside the number of the next step."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "skipped": [self.skipped, self._in_a_row],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.skipped, self._in_a_row = state["skipped"]

    def _images(
        self, tiles: torch.Tensor, seed: int, step: int, first: int
    ) -> torch.Tensor:
        tiles = tiles.to(self._device, non_blocking=True)
        parameters = draw_parameters(
            self._augmentation, seed, step, first + len(tiles), self._device
        )
        own = parameters.part(slice(first, None))
        return self.normalise(augment(tiles, self._augmentation, own))

    def _is_finite(self, loss: torch.Tensor) -> bool:
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        # A norm overflows where its terms do not: ask every number.
        found = torch.stack([g.isfinite().all() for g in gradients]).all()
        return bool(found & loss.isfinite())

    def _check_weights(self, step: int) -> None:
        """End a training whose step overflowed; what was saved before it stands."""
        found = [p.detach().isfinite().all() for p in self.model.parameters()]
        if not torch.stack(found).all():
            raise InputError(
                f"training diverged: step {step} made weights too large for a number; "
                f"lower optimiser.lr, now {self._settings.lr:g}"
            )

    def _skip(self, kept: list[torch.Tensor], loss: torch.Tensor, step: int) -> None:
        """Leave the weights, put back the statistics that the forward pass moved."""
        with torch.no_grad():
            for buffer, old in zip(self.model.buffers(), kept, strict=True):
                buffer.copy_(old)
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= _MOST_SKIPPED:
            raise InputError(
                f"training diverged: {self._in_a_row} steps in a row up to step {step} "
                f"had no finite gradient (loss {loss.item():g}); their weights were "
                f"left out. Lower optimiser.lr, now {self._settings.lr:g}, or use "
                "run.precision: float32"
            )


def learning_rate(config: OptimiserConfig, step: int, num_steps: int) -> float:
    """The learning rate of a step, counted from 0.

    ``decay`` is the inverse-time decay that Keras calls ``decay``.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    rate = config.lr / (1 + config.decay * step)
    if config.schedule == "cosine":
        done = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
        rate *= (1 + math.cos(math.pi * min(done, 1.0))) / 2
    return rate


def make_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The optimiser of a model's parameters."""
    parameters = list(model.parameters())
    keys: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.name == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **keys)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[config.name](parameters, fused=True, **keys)
