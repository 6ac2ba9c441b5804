"""Training of one fold model: plain torch, one device, reproducible by its seeds."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from mshisto_ray.config import InputError
from mshisto_ray.learning.metrics import auroc
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold_model import FoldModel, FoldTask, seeds_of
from mshisto_ray.mil.fit.optimiser import Rates, make_optimiser, rate_in_words
from mshisto_ray.mil.fit.preparation import build_noises, reduced_widths
from mshisto_ray.mil.fit.stopping import EarlyStopping, chance_loss
from mshisto_ray.mil.fit.vote import majority
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import MILModel
from mshisto_ray.representation.noises import Noise


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
    chance = chance_loss(bags.targets[task.train])
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seeds.torch)
        model = build_model(config, bags.dims, len(bags.classes)).to(device)
        batches = Batches(bags, task.standardisation, device, config.vote)
        noises = build_noises(bags, task.standardisation, task.train, config)
        steps = _Steps(bags, batches, model, noises, config, task.num_steps, device)
        stopping = config.early_stopping and EarlyStopping(
            config.early_stopping, chance
        )
        epochs, history = _train(steps, task, stopping, order, noise_stream)
    return FoldModel(model.eval(), task.standardisation, epochs, history, chance)


def build_model(config: TrainConfig, dims: Sequence[int], num_classes: int) -> MILModel:
    """The untrained model of a config; ``dims``: tile widths, coarsest scale first."""
    return MILModel(
        reduced_widths(config.reduction, dims, num_classes),
        num_classes,
        config.hidden,
        config.dropout,
        config.pooling,
        config.combine,
    )


class _Steps:
    """Model, optimiser and batches of one fold; runs an epoch or an evaluation."""

    def __init__(
        self,
        bags: Bags,
        batches: Batches,
        model: MILModel,
        noises: Sequence[Noise],
        config: TrainConfig,
        num_steps: int,
        device: torch.device,
    ):
        assert bags.targets is not None
        self.model = model
        self.config = config
        self.batches = batches
        self._optimiser = make_optimiser(model, config.optimiser)
        self._rates = Rates(self._optimiser, config.optimiser, num_steps)
        self._noises = noises
        self._targets = torch.from_numpy(bags.targets).to(device)
        self._device = device

    def epoch(self, order: np.ndarray, generator: torch.Generator) -> dict[str, float]:
        """Train on the bags (or random bags) in this order; return the mean losses."""
        self.model.train()
        targets = self._targets[torch.from_numpy(order[:, 0]).to(self._device)]
        losses, of_bags, size = [], [], self.config.batch_size
        for start in range(0, len(order), size):
            h, offsets, finer = self.batches.draws(order[start : start + size])
            noise, *others = self._noises
            h = noise(h, generator)
            pairs = zip(finer, others, strict=True)
            finer = [s._replace(h=other(s.h, generator)) for s, other in pairs]
            out = self.model(h, offsets, finer)
            each = out.loss(targets[start : start + size])
            self._optimiser.zero_grad()
            each.mean().backward()
            self._rates.advance()
            self._optimiser.step()
            losses.append(each.detach())
            of_bags.append(out.bag_loss(targets[start : start + size]).detach())
        parts = {"loss": losses, "bag_loss": of_bags}
        return {name: torch.cat(part).mean().item() for name, part in parts.items()}

    def evaluate(self, index: np.ndarray) -> dict[str, float]:
        """``val_loss`` and ``val_auroc`` of bags.

        Where random bags vote, the loss is their mean, as in training: a vote changes
        in steps and hardly reflects how confident a model is.
        """
        each, bag = _of_draws(self.model, self.batches, index)
        targets = self._targets.cpu()
        losses = functional.nll_loss(each, targets[bag], reduction="none").numpy()
        _, place, num = np.unique(bag, return_inverse=True, return_counts=True)
        loss = (np.bincount(place, losses) / num).mean()
        votes = _vote(each, bag, self.batches).exp().numpy()
        area = auroc(votes, targets[index].numpy())
        return {"val_loss": float(loss), "val_auroc": area}


def log_probabilities(
    model: MILModel, batches: Batches, index: np.ndarray
) -> torch.Tensor:
    """Log probabilities [B, C] of the bags at ``index``, float64 on the CPU.

    Where random bags vote, of their vote (see ``vote.majority``).
    """
    return _vote(*_of_draws(model, batches, index), batches)


def _of_draws(
    model: MILModel, batches: Batches, index: np.ndarray
) -> tuple[torch.Tensor, np.ndarray]:
    """Log probabilities [M, C] of all draws of the bags, and the bag of each, [M]."""
    model.eval()
    with torch.inference_mode():
        found = [
            model(*batches.draws(draws)).log_probabilities.double().cpu()
            for draws in batches.in_order(index)
        ]
    return torch.cat(found), batches.all_draws(index)[:, 0]


def _vote(logs: torch.Tensor, bag: np.ndarray, batches: Batches) -> torch.Tensor:
    if batches.vote is None:
        return logs
    starts = np.flatnonzero(np.diff(bag, prepend=-1))
    parts = np.split(logs.exp().numpy(), starts[1:])
    return torch.from_numpy(np.stack([majority(part) for part in parts])).log()


def _train(
    steps: _Steps,
    task: FoldTask,
    stopping: EarlyStopping | None,
    order: np.random.Generator,
    generator: torch.Generator,
) -> tuple[int, tuple[dict[str, float], ...]]:
    """Train; return the number of epochs of the final weights, and the history."""
    draws = steps.batches.training_draws(task.train)
    history: list[dict[str, float]] = []
    weights = None
    for epoch in range(1, steps.config.epochs + 1):
        record = steps.epoch(order.permutation(draws), generator)
        check_finite(record["loss"], epoch, steps.config)
        history.append(record)
        if stopping is None:
            continue
        record |= steps.evaluate(task.validation)
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
