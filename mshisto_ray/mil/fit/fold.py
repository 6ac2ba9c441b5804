"""Training of one fold model: plain torch, one device, reproducible by its seeds."""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import FittedTarget, Target
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.epoch_draws import epoch_draws
from mshisto_ray.mil.fit.fold_model import FoldModel, FoldTask, seeds_of
from mshisto_ray.mil.fit.fold_steps import FoldSteps
from mshisto_ray.mil.fit.optimiser import rate_in_words
from mshisto_ray.mil.fit.preparation import build_noises, reduced_widths
from mshisto_ray.mil.fit.scoring import outputs_of_draws
from mshisto_ray.mil.fit.stopping import EarlyStopping
from mshisto_ray.mil.fit.validation import FoldValidation
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import MILModel


class ModelInput(Protocol):
    """What a model has to be built for: widths by scale, target and its names."""

    @property
    def dims(self) -> tuple[int, ...]:
        """Of a tile at each scale, coarsest first."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the target."""
        ...

    @property
    def kind(self) -> Target:
        """The target."""
        ...


def fit_fold(
    bags: Bags, task: FoldTask, config: TrainConfig, device: torch.device
) -> FoldModel:
    """Train one model.

    Args:
        bags: with targets.
        task: what to train on.
        config: model and training.
        device: where to train.

    Raises:
        InputError: the loss is not finite any more.
    """
    assert bags.targets is not None
    seeds = seeds_of(config.seed, task.stream)
    order = np.random.default_rng(seeds.order)
    noise_stream = torch.Generator(device).manual_seed(seeds.noise)
    fitted = bags.kind.fit(bags.targets[task.train], bags.classes)
    chance = bags.kind.constant_loss(fitted, bags.targets[task.train])
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seeds.torch)
        model = build_model(config, bags).to(device)
        batches = Batches(
            bags, task.standardisation, device, config.vote, config.epoch_tiles
        )
        noises = build_noises(bags, task.standardisation, task.train, config)
        given = fitted, noises, config, task.num_steps, device
        steps = FoldSteps(bags, batches, model, *given)
        stopping = config.early_stopping and EarlyStopping(
            config.early_stopping, chance, bags.kind
        )
        validation = FoldValidation(bags, batches, fitted, task.validation)
        course = steps, task, stopping, validation
        epochs, history = _train(*course, order, noise_stream)
        if fitted.of_outputs:
            fitted = _fit_outputs(bags, batches, model, fitted, task.train)
    model, fit = model.eval(), task.standardisation
    return FoldModel(model, fit, epochs, history, chance, fitted)


def _fit_outputs(
    bags: Bags,
    batches: Batches,
    model: MILModel,
    fitted: FittedTarget,
    index: np.ndarray,
) -> FittedTarget:
    """Fit to the outputs of the bags at ``index``; of random bags, to their means."""
    assert bags.targets is not None
    own, place = np.unique(index, return_inverse=True)  # some may be drawn twice
    each, bag = outputs_of_draws(model, batches, own, bags.kind)
    starts = np.flatnonzero(np.diff(bag, prepend=-1))
    means = torch.stack(
        [part.mean(0) for part in each.tensor_split(starts[1:].tolist())]
    )
    return fitted.after(means[place], bags.targets[index])


def build_model(config: TrainConfig, bags: ModelInput) -> MILModel:
    """The untrained model of a config for such bags, or for the input of a head."""
    names, target = bags.classes, bags.kind
    return MILModel(
        reduced_widths(config.reduction, bags.dims, len(names)),
        len(names),
        config.hidden,
        config.dropout,
        config.pooling,
        config.combine,
        None if target.of_classes else target.num_outputs(names),
    )


def _train(
    steps: FoldSteps,
    task: FoldTask,
    stopping: EarlyStopping | None,
    validation: FoldValidation,
    order: np.random.Generator,
    generator: torch.Generator,
) -> tuple[int, tuple[dict[str, float], ...]]:
    """Train; return the number of epochs of the final weights, and the history."""
    history: list[dict[str, float]] = []
    weights = None
    for epoch in range(1, steps.config.epochs + 1):
        draws = steps.batches.training_draws(task.train, epoch)
        known = steps.balanced, order, steps.config.together
        record = steps.epoch(epoch_draws(draws, *known), generator)
        check_finite(record["loss"], epoch, steps.config)
        history.append(record)
        if stopping is None:
            continue
        record |= validation.measure(steps.model)
        if stopping.improves(epoch, record):
            weights = copy.deepcopy(steps.model.state_dict())
        elif stopping.is_over(epoch):
            break
    if stopping is None or weights is None:
        return len(history), tuple(history)
    steps.model.load_state_dict(weights)
    return stopping.kept, tuple(history)


def check_finite(loss: float, epoch: int, config: TrainConfig) -> None:
    """Raise InputError after an epoch whose loss is not finite."""
    if not np.isfinite(loss):
        raise InputError(
            f"training diverged in epoch {epoch} (the loss is {loss}): lower "
            f"optimiser.lr, now {rate_in_words(config.optimiser)}"
        )
