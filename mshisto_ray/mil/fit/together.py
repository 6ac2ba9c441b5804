"""Training of many small fold models at once: as ``fit_fold``, in fewer calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets import Target
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import build_model
from mshisto_ray.mil.fit.fold_model import FoldModel, FoldTask
from mshisto_ray.mil.fit.gathered import Gathered, gathered_bytes
from mshisto_ray.mil.fit.learner import Learner
from mshisto_ray.mil.fit.stack_steps import StackStep, plan_steps
from mshisto_ray.mil.fit.stacked import Stack, can_stack
from mshisto_ray.mil.fit.stacked_optimiser import StackedOptimiser
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.model import outputs_of

# Instances per step of a model above which its products cost more than its calls.
_LONG_STEP = 256
# Every fold has its own standardised instances: the most that all may take.
_MOST_BYTES = 1 << 30


def can_train_together(
    bags: Bags, config: TrainConfig, num: int, device: torch.device
) -> bool:
    """Whether ``num`` models can be trained at once, and faster than one by one.

    They have to be of one scale, with weights in linear layers alone, on a CPU, from
    steps of few instances.
    """
    if num < 2 or bags.finer or device.type != "cpu":
        return False
    if bags.kind.whole_fold or config.mixup:
        return False
    if config.batch_size * _mean_rows(bags, config) > _LONG_STEP:
        return False
    if gathered_bytes(bags, num) > _MOST_BYTES:
        return False
    with torch.random.fork_rng([]):
        return can_stack(build_model(config, bags))


def _mean_rows(bags: Bags, config: TrainConfig) -> float:
    """Instances of a bag in a step."""
    if config.vote:
        return config.vote.size
    return float(np.minimum(bags.sizes, config.tiles_per_epoch or np.inf).mean())


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
    found: dict[int, FoldModel] = {}
    for place, model in fit_stack(bags, [(task, config) for task in tasks]):
        if isinstance(model, InputError):
            raise model
        found[place] = model
        on_model(len(found))
    return [found[place] for place in range(len(tasks))]


def fit_stack(
    bags: Bags, wanted: Sequence[tuple[FoldTask, TrainConfig]]
) -> Iterator[tuple[int, FoldModel | InputError]]:
    """Train models of one shape, and yield each, with its place, when it is done.

    Args:
        bags: with targets; those used here have instances.
        wanted: what each learns from, with the same ``num_steps``, and its config,
            which ``stack_key`` is equal for.

    Yields:
        The model that ``fit_fold`` would make, to rounding, or the error it would
        raise, which ends that model alone.
    """
    gathered = Gathered(bags, [task for task, _ in wanted])
    # Those with equal rates side by side: the optimiser takes them as one.
    order = sorted(range(len(wanted)), key=lambda k: _rates(wanted[k][1]))
    learners = [Learner(bags, *wanted[place], gathered) for place in order]
    active = list(zip(order, learners, strict=True))
    given = [x.model for x in learners], [x.dropout for x in learners]
    stack = Stack(*given, _mean_rows(bags, wanted[0][1]))
    configs = [learner.config.optimiser for learner in learners]
    num_steps = wanted[0][0].num_steps
    optimiser = StackedOptimiser(stack.module, configs, num_steps)
    while active:
        given = gathered, optimiser, bags.kind
        _take_steps(stack, [learner for _, learner in active], *given)
        found = _validate(stack, [x for _, x in active], gathered, bags.kind)
        for place, (_, learner) in enumerate(active):
            if not learner.ahead:
                copy = partial(stack.copy_to, learner.model, place)
                learner.end_epoch(copy, found.get(place))
        ended = [(place, x) for place, x in active if x.is_over]
        if ended:
            stay = [k for k, (_, x) in enumerate(active) if not x.is_over]
            active = [active[k] for k in stay]
            stack.keep(stay)
            optimiser.keep(stay)
        yield from ((place, x.error or x.result()) for place, x in ended)


def _rates(config: TrainConfig) -> tuple[float, float]:
    return (config.optimiser.lr or 0.0, config.optimiser.weight_decay)


def _take_steps(
    stack: Stack,
    learners: Sequence[Learner],
    gathered: Gathered,
    optimiser: StackedOptimiser,
    target: Target,
) -> None:
    """Take steps of every learner until one ends its epoch."""
    num = min(len(learner.ahead) for learner in learners)
    losses, owners = [], []
    for step in plan_steps([learner.take(num) for learner in learners]):
        losses.append(_step(stack, step, learners, gathered, optimiser, target))
        owners.append(step.bags.owners)
    found, owner = torch.cat(losses).numpy(), torch.cat(owners).numpy()
    for place, learner in enumerate(learners):
        learner.record(found[owner == place])


def _step(
    stack: Stack,
    step: StackStep,
    learners: Sequence[Learner],
    gathered: Gathered,
    optimiser: StackedOptimiser,
    target: Target,
) -> torch.Tensor:
    """Take one step; the mean loss of each learner changes only its own weights.

    Returns the whole loss of each bag, and its part of the bag, [B, 2].
    """
    h = gathered.values.index_select(0, step.rows)
    given = h.split(step.instances.counts)
    pairs = zip(given, learners, strict=True)
    parts = [learner.disturb(part, learner.noise) for part, learner in pairs]
    if any(part is not own for part, own in zip(parts, given, strict=True)):
        h = torch.cat(parts)
    out = stack(h, step, gathered.places_of(step.rows))
    bag = target.loss(outputs_of(out, target), step.targets)
    if step.weights is not None:
        bag = bag * step.weights
    each = out.with_auxiliary(bag, step.targets)
    each.dot(step.shares.to(each.dtype)).backward()
    optimiser.step()
    return torch.stack([each.detach(), bag.detach()], 1)


def _validate(
    stack: Stack, learners: Sequence[Learner], gathered: Gathered, target: Target
) -> dict[int, torch.Tensor]:
    """Outputs [M, K] of the validation bags of those that ended an epoch, by place."""
    looks = [[] if learner.ahead else learner.looks for learner in learners]
    num = max(map(len, looks))
    if not num:
        return {}
    pairs = zip(looks, learners, strict=True)
    steps = [[*own, *[x.no_bags] * (num - len(own))] for own, x in pairs]
    outputs, owners = [], []
    stack.module.eval()
    with torch.inference_mode():
        for step in plan_steps(steps):
            h = gathered.values.index_select(0, step.rows)
            out = stack(h, step, gathered.places_of(step.rows))
            outputs.append(outputs_of(out, target))
            owners.append(step.bags.owners)
    stack.module.train()
    found, owner = torch.cat(outputs).double(), torch.cat(owners)
    ended = (place for place, own in enumerate(looks) if own)
    return {place: found[owner == place] for place in ended}
