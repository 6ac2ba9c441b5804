"""Cross-validation of one MIL config: out-of-fold predictions of every bag."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.learning.predictions import Predictions, concatenate
from mshisto_ray.learning.split import Split
from mshisto_ray.mil.fit.batches import Batches
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.fold import fit_fold
from mshisto_ray.mil.fit.fold_model import FoldModel, FoldTask, count_steps
from mshisto_ray.mil.fit.preparation import fit_preparation
from mshisto_ray.mil.fit.scoring import predict_values
from mshisto_ray.mil.fit.standardisation import slide_moments
from mshisto_ray.mil.fit.together import can_train_together, fit_together
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.representation.normalise import Moments


@dataclass(frozen=True)
class CrossValidation:
    """Models of all folds and repeats, and their predictions of held-out bags.

    ``test``: each bag once per repeat, by the model of the fold that held it out;
    ``validation``: the bags set aside within each training fold, None where none
    were; ``models``: in the order of ``splits``; ``refit``: one model of all bags.
    """

    splits: tuple[Split, ...]
    models: tuple[FoldModel, ...]
    test: Predictions
    validation: Predictions | None
    refit: FoldModel | None


def cross_validate(
    bags: Bags,
    splits: Sequence[Split],
    config: TrainConfig,
    device: torch.device,
    refit: bool = False,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
    on_validated: Callable[[Predictions], None] = lambda validation: None,
    stages: Sequence[int] = (),
) -> CrossValidation:
    """Train and test a config on every split.

    Args:
        bags: with targets.
        splits: of ``plan_splits``.
        config: model and training.
        device: where to train.
        refit: whether to train one more model on all bags, for the median number of
            epochs of the fold models and without validation.
        on_fold: called with the number of models done and the number of all.
        on_validated: called with each model's predictions of its validation bags.
        stages: after so many models the callbacks are called before others begin,
            also where models are trained at once.
    """
    slides = slide_moments(bags)
    held = HeldOut(bags, config, device)
    for split, model in _fit(bags, slides, splits, config, device, on_fold, stages):
        inner = held.add(split, model)
        if inner:
            on_validated(inner)
    refitted = None
    if refit:
        refitted = refit_all(bags, slides, held.models, config, device)
    return held.conclude(refitted)


class HeldOut:
    """Models of a config with their predictions of what they have not learned from.

    Args:
        bags: with targets.
        config: of the models.
        device: where to predict.

    Attributes:
        models: those added so far.
    """

    def __init__(self, bags: Bags, config: TrainConfig, device: torch.device):
        self._bags, self._config, self._device = bags, config, device
        self._splits: list[Split] = []
        self.models: list[FoldModel] = []
        self._tests: list[Predictions] = []
        self._inner: list[Predictions] = []

    def add(self, split: Split, model: FoldModel) -> Predictions | None:
        """Predict test and validation bags; returns the latter, None without any."""
        given = self._bags, model.standardisation, self._device, self._config.vote
        known = self._bags, Batches(*given), model, split
        self._tests.append(_predict(*known, split.test))
        if len(split.validation):
            self._inner.append(_predict(*known, split.validation))
        model.model.cpu()
        self._splits.append(split)
        self.models.append(model)
        return self._inner[-1] if len(split.validation) else None

    def conclude(self, refit: FoldModel | None) -> CrossValidation:
        """The whole, with the model of all bags."""
        return CrossValidation(
            tuple(self._splits),
            tuple(self.models),
            concatenate(self._tests),
            concatenate(self._inner) if self._inner else None,
            refit,
        )


def _fit(
    bags: Bags,
    slides: Sequence[Moments],
    splits: Sequence[Split],
    config: TrainConfig,
    device: torch.device,
    on_fold: Callable[[int, int], None],
    stages: Sequence[int],
) -> Iterator[tuple[Split, FoldModel]]:
    """Yield each split and its model; all are trained at once where that is faster."""
    tasks = fold_tasks(bags, slides, splits, config)
    total = len(splits)
    # Of all models, not of those until a stage: stages change no result.
    stacks = can_train_together(bags, config, total, device)
    for first, last in itertools.pairwise([0, *stages, total]):
        part = tasks[first:last]
        if stacks:

            def report(done: int, before: int = first) -> None:
                on_fold(before + done, total)

            models = fit_together(bags, part, config, report)
            yield from zip(splits[first:last], models, strict=True)
            continue
        for done, task in enumerate(part, start=first + 1):
            yield splits[done - 1], fit_fold(bags, task, config, device)
            on_fold(done, total)


def fold_tasks(
    bags: Bags, slides: Sequence[Moments], splits: Sequence[Split], config: TrainConfig
) -> list[FoldTask]:
    """What the model of each split learns from."""
    # Of the largest fold, so that the rate of a step is the same in all models.
    largest, whole_fold = max(len(s.train) for s in splits), bags.kind.whole_fold
    num_steps = count_steps(largest, config, whole_fold)
    return [
        FoldTask(
            fit_preparation(bags, slides, s.train, config),
            s.train,
            s.validation,
            (s.repeat, s.fold),
            num_steps,
        )
        for s in splits
    ]


def predict_tests(
    result: CrossValidation, bags: Bags, config: TrainConfig, device: torch.device
) -> Predictions:
    """Predict each model's test bags again, from other instances of them.

    Args:
        result: of ``cross_validate``.
        bags: the same bags with other instances; those without any are left out.
        config: that the models were trained with.
        device: where to predict.
    """
    found = []
    for split, model in zip(result.splits, result.models, strict=True):
        batches = Batches(bags, model.standardisation, device, config.vote)
        index = split.test[bags.sizes[split.test] > 0]
        if len(index):
            model.model.to(device)
            found.append(_predict(bags, batches, model, split, index))
            model.model.cpu()
    if not found:
        raise InputError("none of the bags has an instance to predict from")
    return concatenate(found)


def refit_all(
    bags: Bags,
    slides: Sequence[Moments],
    models: Sequence[FoldModel],
    config: TrainConfig,
    device: torch.device,
) -> FoldModel:
    """One more model of all bags, for the median number of epochs of ``models``."""
    everything = np.flatnonzero(bags.sizes > 0)
    epochs = int(np.median([model.epochs for model in models]))
    last = config.model_copy(update={"early_stopping": None, "epochs": epochs})
    standardisation = fit_preparation(bags, slides, everything, config)
    # Three numbers, unlike the stream of any split, give other random numbers (numpy
    # treats a stream that ends in zeros as the shorter one).
    stream = (0, 0, 1)
    # The rate falls as in the folds.
    num_steps = count_steps(len(everything), config, bags.kind.whole_fold)
    task = FoldTask(standardisation, everything, everything[:0], stream, num_steps)
    model = fit_fold(bags, task, last, device)
    model.model.cpu()
    return model


def _predict(
    bags: Bags, batches: Batches, model: FoldModel, split: Split, index: np.ndarray
) -> Predictions:
    values = predict_values(model.model, batches, index, bags.kind, model.fitted)
    found = as_predictions(bags, index, values, split.fold, split.repeat)
    known = model.fitted.measured_with
    models = {(split.repeat, split.fold): known} if known else {}
    return replace(found, models=models)


def as_predictions(
    bags: Bags, index: np.ndarray, probabilities: np.ndarray, fold: int, repeat: int
) -> Predictions:
    """``Predictions`` of the bags at ``index`` from their values [B, V]."""
    assert bags.targets is not None
    return Predictions(
        classes=bags.classes,
        bag=np.array(bags.names, dtype=object)[index],
        slide_id=np.array(bags.slide_ids, dtype=object)[index],
        patient_id=np.array(bags.patient_ids, dtype=object)[index],
        target=bags.targets[index],
        fold=np.full(len(index), fold),
        repeat=np.full(len(index), repeat),
        probabilities=probabilities,
        kind=bags.kind,
    )
