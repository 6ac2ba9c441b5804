"""The steps of one fold: forward, loss, optimiser; exact steps on all bags at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mshisto_ray.learning.targets import FittedTarget
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.optimiser import Rates, make_optimiser
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import MILModel, outputs_of
from mshisto_ray.mil.poolings import Pooled
from mshisto_ray.representation.mixup import Mix, draw_mix, mix_bags
from mshisto_ray.representation.noises import Noise, unchanged


class FoldSteps:
    """Model, optimiser and batches of one fold; runs an epoch."""

    def __init__(
        self,
        bags: Bags,
        batches: Batches,
        model: MILModel,
        fitted: FittedTarget,
        noises: Sequence[Noise],
        config: TrainConfig,
        num_steps: int,
        device: torch.device,
    ):
        assert bags.targets is not None
        self.target = bags.kind
        self.model = model
        self.config = config
        self.batches = batches
        self._optimiser = make_optimiser(model, config.optimiser)
        groups = self._optimiser.param_groups
        self._rates = Rates(groups, config.optimiser, num_steps)
        self._noises = noises
        self._is_silent = all(noise is unchanged for noise in noises)
        self._targets = fitted.encode(bags.targets).to(device)
        weights = fitted.weights(bags.targets)
        self._weights = None if weights is None else weights.to(device)
        self._device = device
        self.balanced = bags.targets if config.draws == "balanced" else None

    def epoch(self, order: np.ndarray, generator: torch.Generator) -> dict[str, float]:
        """Train on the bags (or random bags) in this order; return the mean losses."""
        self.model.train()
        if self.target.whole_fold:
            return self._whole_step(order, generator)
        losses, of_bags, size = [], [], self.config.batch_size
        for start in range(0, len(order), size):
            draws = order[start : start + size]
            mix = self._mix(len(draws), generator)
            out = self._forward(draws, generator, mix)
            bag, each = self._losses(out, draws)
            if mix:
                others = self._losses(out, draws[mix.partner.cpu().numpy()])
                bag = mix.share * bag + (1 - mix.share) * others[0]
                each = mix.share * each + (1 - mix.share) * others[1]
            self._optimiser.zero_grad()
            each.mean().backward()
            self._rates.advance()
            self._optimiser.step()
            losses.append(each.detach())
            of_bags.append(bag.detach())
        parts = {"loss": losses, "bag_loss": of_bags}
        return {name: torch.cat(part).mean().item() for name, part in parts.items()}

    def _whole_step(
        self, order: np.ndarray, generator: torch.Generator
    ) -> dict[str, float]:
        """Take one step on the loss of all bags together.

        Its gradient is exact, in the memory of some bags: outputs of all are worked out
        without gradients, then the loss's gradient by each output is carried back run
        by run, with the same random numbers (Gao et al. 2021, gradient cache).
        """
        runs, outputs, states = list(self.batches.runs(order)), [], []
        for draws in runs[:-1]:
            states.append(_random_state(generator, self._device))
            with torch.no_grad():
                outputs.append(outputs_of(self._forward(draws, generator), self.target))
        last = outputs_of(self._forward(runs[-1], generator), self.target)
        leaf = torch.cat([*outputs, last.detach()]).requires_grad_()
        loss = self._loss(leaf, self._of(order), order).mean()
        (gradient,) = torch.autograd.grad(loss, leaf)
        parts = gradient.split([len(draws) for draws in runs])
        self._optimiser.zero_grad()
        last.backward(parts[-1])
        kept = _random_state(generator, self._device)
        for draws, part, state in zip(runs[:-1], parts, states, strict=False):
            _set_random_state(state, generator, self._device)
            outputs_of(self._forward(draws, generator), self.target).backward(part)
        _set_random_state(kept, generator, self._device)
        self._rates.advance()
        self._optimiser.step()
        return {"loss": loss.item(), "bag_loss": loss.item()}

    def _mix(self, num: int, generator: torch.Generator) -> Mix | None:
        """How the bags of a step are mixed; None without mixup."""
        if not self.config.mixup:
            return None
        size = torch.empty(1, dtype=torch.int64, device=self._device)
        seed = int(size.random_(generator=generator))
        mix = draw_mix(self.config.mixup, num, np.random.default_rng(seed))
        return mix.to(self._device)

    def _losses(
        self, out: Pooled, draws: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses of bags for the targets of draws: without and with what is added."""
        targets = self._of(draws)
        bag = self._loss(outputs_of(out, self.target), targets, draws)
        return bag, out.with_auxiliary(bag, targets)

    def _forward(
        self, draws: np.ndarray, generator: torch.Generator, mix: Mix | None = None
    ) -> Pooled:
        # Copies of a tile are disturbed each by itself, so they share nothing.
        batch = self.batches.draws(draws, share=self._is_silent)
        h, offsets, finer, places, rows = batch
        if mix:
            h = mix_bags(h, offsets, mix, generator)
        noise, *others = self._noises
        h = noise(h, generator)
        pairs = zip(finer, others, strict=True)
        finer = [s._replace(h=other(s.h, generator)) for s, other in pairs]
        return self.model(h, offsets, finer, places, rows)

    def _of(self, draws: np.ndarray) -> torch.Tensor:
        """Encoded targets of the bags of draws."""
        return self._targets[torch.from_numpy(draws[:, 0]).to(self._device)]

    def _loss(
        self, outputs: torch.Tensor, targets: torch.Tensor, draws: np.ndarray
    ) -> torch.Tensor:
        each = self.target.loss(outputs, targets)
        if self._weights is None:
            return each
        return each * self._weights[torch.from_numpy(draws[:, 0]).to(self._device)]


def _random_state(
    generator: torch.Generator, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Of the noise, of the CPU and of a GPU."""
    states = (generator.get_state(), torch.get_rng_state())
    if device.type == "cuda":
        states += (torch.cuda.get_rng_state(device),)
    return states


def _set_random_state(
    states: Sequence[torch.Tensor], generator: torch.Generator, device: torch.device
) -> None:
    generator.set_state(states[0])
    torch.set_rng_state(states[1])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[2], device)
