"""Training of many small fold models at once: as ``fit_fold``, in fewer calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from mshisto_ray.learning.targets import FittedTarget, Target
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.epoch_draws import epoch_draws
from mshisto_ray.mil.fit.fold import build_model, check_finite
from mshisto_ray.mil.fit.fold_model import FoldModel, FoldTask, seeds_of
from mshisto_ray.mil.fit.optimiser import Rates, make_optimiser
from mshisto_ray.mil.fit.preparation import build_noises
from mshisto_ray.mil.fit.stacked import Stack, can_stack
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import MILModel, outputs_of
from mshisto_ray.representation.noises import (
    Noise,
)

# Instances per step of a model above which its products cost more than its calls.
_LONG_STEP = 256
# Every model holds its own standardised instances: the most that all may take.
_MOST_BYTES = 1 << 30


def can_train_together(
    bags: Bags, config: TrainConfig, num: int, device: torch.device
) -> bool:
    """Whether ``num`` models can be trained at once, and faster than one by one.

    They have to run for the same number of epochs (no early stopping), on one scale,
    with weights in linear layers alone, on a CPU, from steps of few instances.
    """
    if num < 2 or config.early_stopping or bags.finer or device.type != "cpu":
        return False
    if bags.kind.whole_fold or config.mixup:
        return False
    most = np.minimum(bags.sizes, config.tiles_per_epoch or np.inf)
    size = config.vote.size if config.vote else float(most.mean())
    total = int(bags.features.counts.sum()) * bags.features.dim * 4 * num
    if config.batch_size * size > _LONG_STEP or total > _MOST_BYTES:
        return False
    with torch.random.fork_rng([]):
        return can_stack(build_model(config, bags))


def fit_together(
    bags: Bags,
    tasks: Sequence[FoldTask],
    config: TrainConfig,
    on_model: Callable[[int], None],
) -> list[FoldModel]:
    """Train one model per task; each equals that of ``fold.fit_fold``, to rounding.

    Args:
        bags: with targets; those used here have instances.
        tasks: for which ``can_train_together`` is true; with the same ``num_steps``.
        config: model and training.
        on_model: called with the number of models done.

    Raises:
        InputError: a loss is not finite any more.
    """
    assert bags.targets is not None
    learners = [_Learner.of(bags, task, config) for task in tasks]
    stack = Stack(
        [learner.model for learner in learners],
        [learner.dropout for learner in learners],
    )
    optimiser = make_optimiser(stack.module, config.optimiser)
    rates = Rates(optimiser, config.optimiser, tasks[0].num_steps)
    active = learners
    while active:
        going = [learner.advance() for learner in active]
        if not all(going):
            ended = [place for place, goes in enumerate(going) if not goes]
            stack.leave(ended, optimiser)
            active = [x for x, goes in zip(active, going, strict=True) if goes]
            on_model(len(learners) - len(active))
        if active:
            rates.advance()
            _step(stack, active, optimiser, bags.kind)
    return [
        FoldModel(
            learner.model.eval(),
            task.standardisation,
            config.epochs,
            tuple(learner.history),
            bags.kind.constant_loss(learner.fitted, bags.targets[task.train]),
            learner.fitted,
        )
        for learner, task in zip(learners, tasks, strict=True)
    ]


@dataclass
class _Learner:
    """One model in training: its bags, its random numbers, its losses.

    ``targets``, ``weights``: of all bags, as its loss takes them; ``now``: draws [b, 2]
    of the current step; ``losses``: [b, 2], the loss and its part of the bags, of this
    epoch's steps; ``history``: their means in past epochs.
    """

    model: MILModel
    batches: Batches
    fitted: FittedTarget
    targets: torch.Tensor
    weights: torch.Tensor | None
    config: TrainConfig
    dropout: torch.Generator
    disturb: Noise
    noise: torch.Generator
    steps: Iterator[np.ndarray | None]
    now: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    losses: list[torch.Tensor] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def of(cls, bags: Bags, task: FoldTask, config: TrainConfig) -> _Learner:
        """The learner of a task, at its start."""
        seeds = seeds_of(config.seed, task.stream)
        cpu = torch.device("cpu")
        with torch.random.fork_rng([]):
            torch.manual_seed(seeds.torch)
            model = build_model(config, bags)
            dropout = torch.Generator().set_state(torch.get_rng_state())
        random = config.vote, config.epoch_tiles
        batches = Batches(bags, task.standardisation, cpu, *random)
        noise = torch.Generator().manual_seed(seeds.noise)
        order = np.random.default_rng(seeds.order)
        balanced = bags.targets if config.draws == "balanced" else None
        steps = _steps(batches, task.train, config, balanced, order)
        (disturb,) = build_noises(bags, task.standardisation, task.train, config)
        assert bags.targets is not None
        fitted = bags.kind.fit(bags.targets[task.train], bags.classes)
        wanted = fitted.encode(bags.targets), fitted.weights(bags.targets)
        return cls(
            model, batches, fitted, *wanted, config, dropout, disturb, noise, steps
        )

    @property
    def places(self) -> torch.Tensor:
        """Bags of the current step."""
        return torch.from_numpy(self.now[:, 0])

    def advance(self) -> bool:
        """Take the draws of the next step; return whether there is one.

        Raises:
            InputError: the epoch that has ended has a loss that is not finite.
        """
        draws = next(self.steps)
        if draws is None:
            loss, of_bags = torch.cat(self.losses).mean(0).tolist()
            self.losses.clear()
            self.history.append({"loss": loss, "bag_loss": of_bags})
            check_finite(loss, len(self.history), self.config)
            draws = next(self.steps, None)
        if draws is None:
            return False
        self.now = draws
        return True


def _steps(
    batches: Batches,
    train: np.ndarray,
    config: TrainConfig,
    balanced: np.ndarray | None,
    order: np.random.Generator,
) -> Iterator[np.ndarray | None]:
    """Draws of every step, and None at the end of each epoch.

    ``balanced``: classes of all bags, where draws are balanced.
    """
    for epoch in range(1, config.epochs + 1):
        draws = batches.training_draws(train, epoch)
        shuffled = epoch_draws(draws, balanced, order)
        for start in range(0, len(shuffled), config.batch_size):
            yield shuffled[start : start + config.batch_size]
        yield None


def _step(
    stack: Stack,
    learners: Sequence[_Learner],
    optimiser: torch.optim.Optimizer,
    target: Target,
) -> None:
    """Take one step of every learner; its mean loss changes only its own weights."""
    batches = [learner.batches.draws(learner.now) for learner in learners]
    pairs = zip(batches, learners, strict=True)
    parts = [learner.disturb(batch.h, learner.noise) for batch, learner in pairs]
    sizes = torch.cat([batch.offsets.diff() for batch in batches])
    offsets = functional.pad(sizes.cumsum(0), (1, 0))
    bags = [len(learner.now) for learner in learners]
    reads = [batch.places for batch in batches if batch.places]
    places = (lambda: torch.cat([read() for read in reads])) if reads else None
    instances = [len(part) for part in parts]
    out = stack(torch.cat(parts), offsets, instances, bags, places)
    wanted = torch.cat([learner.targets[learner.places] for learner in learners])
    bag = target.loss(outputs_of(out, target), wanted)
    weights = [x.weights[x.places] for x in learners if x.weights is not None]
    if weights:
        bag = bag * torch.cat(weights)
    each = out.with_auxiliary(bag, wanted)
    optimiser.zero_grad()
    each.backward(torch.tensor([1 / num for num in bags for _ in range(num)]))
    optimiser.step()
    losses = torch.stack([each, bag], 1).detach().split(bags)
    for learner, loss in zip(learners, losses, strict=True):
        learner.losses.append(loss)
