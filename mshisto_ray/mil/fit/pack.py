"""Cross-validation of several configs of one shape at once, as one stack of models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from mshisto_ray.config import InputError
from mshisto_ray.learning.split import Split
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.cross_validation import (
    CrossValidation,
    HeldOut,
    fold_tasks,
    refit_all,
)
from mshisto_ray.mil.fit.fold_model import FoldModel
from mshisto_ray.mil.fit.stacked_optimiser import same_method
from mshisto_ray.mil.fit.standardisation import slide_moments
from mshisto_ray.mil.fit.together import can_train_together, fit_stack
from mshisto_ray.mil.input.bags import Bags

_CPU = torch.device("cpu")
# What every model of a stack may have of its own.
_OWN = {"noise", "seed", "early_stopping"}


def shape_of(config: TrainConfig) -> str:
    """Equal for configs whose models can be trained in one stack."""
    same = config.model_copy(update={"optimiser": same_method(config.optimiser)})
    return same.model_dump_json(include=set(TrainConfig.model_fields) - _OWN)


def can_pack(bags: Bags, config: TrainConfig, num: int) -> bool:
    """Whether the ``num`` models of a config are faster in a stack, on a CPU."""
    return can_train_together(bags, config, num, _CPU)


def cross_validate_pack(
    bags: Bags,
    splits: Sequence[Split],
    configs: Sequence[TrainConfig],
    refits: Sequence[bool],
    on_model: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[int, CrossValidation | InputError]]:
    """Train and test configs of one shape; yield each, with its place, when it is done.

    Args:
        bags: with targets.
        splits: of ``plan_splits``, at least two.
        configs: ``shape_of`` and ``can_pack`` of all are equal and true.
        refits: see ``cross_validate``, for each config.
        on_model: called with the number of models done.

    Yields:
        What ``cross_validate`` would return, to rounding, or the error that it would
        raise.
    """
    slides = slide_moments(bags)
    tasks = fold_tasks(bags, slides, splits, configs[0])
    found: list[dict[int, FoldModel | InputError]] = [{} for _ in configs]
    wanted = [(task, config) for config in configs for task in tasks]
    for done, (place, model) in enumerate(fit_stack(bags, wanted), start=1):
        on_model(done)
        number, fold = divmod(place, len(tasks))
        found[number][fold] = model
        if len(found[number]) < len(tasks):
            continue
        config, held = configs[number], HeldOut(bags, configs[number], _CPU)
        models = [found[number].pop(fold) for fold in range(len(tasks))]
        errors = [model for model in models if isinstance(model, InputError)]
        if errors:
            yield number, errors[0]
            continue
        for split, model in zip(splits, models, strict=True):
            assert isinstance(model, FoldModel)
            held.add(split, model)
        refit = None
        if refits[number]:
            refit = refit_all(bags, slides, held.models, config, _CPU)
        yield number, held.conclude(refit)
