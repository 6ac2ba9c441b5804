"""One model of a stack in training: its steps, its random numbers, its epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from mshisto_ray.config import InputError
from mshisto_ray.mil.fit.config import TrainConfig
from mshisto_ray.mil.fit.epoch_draws import epoch_draws
from mshisto_ray.mil.fit.fold import build_model, check_finite
from mshisto_ray.mil.fit.fold_model import FoldModel, FoldTask, seeds_of
from mshisto_ray.mil.fit.gathered import Gathered
from mshisto_ray.mil.fit.preparation import build_noises
from mshisto_ray.mil.fit.stack_steps import ModelStep
from mshisto_ray.mil.fit.stopping import EarlyStopping
from mshisto_ray.mil.fit.validation import FoldValidation
from mshisto_ray.mil.input.bags import Bags

# Instances of a model for a look at its validation bags: all models look at once.
_LOOK_ROWS = 2048


class Learner:
    """A model that takes its steps in a stack, with what ``fit_fold`` would have.

    Args:
        bags: with targets.
        task: what to train on.
        config: model and training.
        gathered: the instances of its stack.

    Attributes:
        model: has the weights that the stack last copied to it.
        disturb: the noise.
        noise: its random numbers.
        dropout: those of the dropout.
        ahead: steps left of this epoch.
        looks: steps over the bags that it is validated with; none where it is not.
        no_bags: a step over none.
        is_over: there is no further step.
        error: why training ended before its time.
    """

    def __init__(
        self, bags: Bags, task: FoldTask, config: TrainConfig, gathered: Gathered
    ):
        assert bags.targets is not None
        self.task, self.config, self._gathered = task, config, gathered
        seeds = seeds_of(config.seed, task.stream)
        with torch.random.fork_rng([]):
            torch.manual_seed(seeds.torch)
            self.model = build_model(config, bags)
            self.dropout = torch.Generator().set_state(torch.get_rng_state())
        self.noise = torch.Generator().manual_seed(seeds.noise)
        self._order = np.random.default_rng(seeds.order)
        given = bags, task.standardisation, task.train, config
        (self.disturb,) = build_noises(*given)
        self._fitted = bags.kind.fit(bags.targets[task.train], bags.classes)
        self._targets = self._fitted.encode(bags.targets)
        self._weights = self._fitted.weights(bags.targets)
        known = self._fitted, bags.targets[task.train]
        self._chance = bags.kind.constant_loss(*known)
        self._batches = gathered.batches(task, config)
        self._balanced = bags.targets if config.draws == "balanced" else None
        self._validation = self._stopping = None
        nothing = np.empty(0, np.int64)
        self.no_bags = ModelStep(nothing, nothing, self._targets[:0], None)
        self.looks: list[ModelStep] = []
        if config.early_stopping:
            stopping = config.early_stopping, self._chance, bags.kind
            self._stopping = EarlyStopping(*stopping)
            given = bags, self._batches, self._fitted, task.validation
            self._validation = FoldValidation(*given)
            self._looked_at = self._batches.all_draws(task.validation)
            runs = self._batches.runs(self._looked_at, _LOOK_ROWS)
            self.looks = [self._look(run) for run in runs]
        self._history: list[dict[str, float]] = []
        self._losses: list[np.ndarray] = []
        self.is_over = False
        self.error: InputError | None = None
        self._begin_epoch()

    def result(self) -> FoldModel:
        """The trained model.

        Raises:
            InputError: the loss became infinite or undefined.
        """
        if self.error:
            raise self.error
        return FoldModel(
            self.model.eval(),
            self.task.standardisation,
            self._kept or len(self._history),
            tuple(self._history),
            self._chance,
            self._fitted,
        )

    def take(self, num: int) -> list[ModelStep]:
        """The next steps of this epoch."""
        taken, self.ahead = self.ahead[:num], self.ahead[num:]
        return taken

    def record(self, losses: np.ndarray) -> None:
        """Take the losses of the steps that were taken last.

        Args:
            losses: [B, 2], of each bag: the whole loss, and its part of the bag.
        """
        self._losses.append(losses)

    @property
    def _kept(self) -> int:
        """The best epoch so far, whose weights ``model`` has; 0: none counts yet."""
        return self._stopping.kept if self._stopping else 0

    def end_epoch(
        self, copy_weights: Callable[[], None], outputs: torch.Tensor | None
    ) -> None:
        """Judge the epoch that is over, and begin the next one if there is one.

        Args:
            copy_weights: gives ``model`` its weights.
            outputs: of the bags of ``looks``, [M, K]; None: there are none.
        """
        losses = torch.from_numpy(np.concatenate(self._losses).T.copy())
        loss, of_bags = (part.mean().item() for part in losses)
        record = {"loss": loss, "bag_loss": of_bags}
        epoch = len(self._history) + 1
        try:
            check_finite(loss, epoch, self.config)
        except InputError as error:
            self.error, self.is_over = error, True
            return
        self._history.append(record)
        self.is_over = epoch == self.config.epochs
        if self._validation and self._stopping and outputs is not None:
            record |= self._validation.judge(outputs, self._looked_at[:, 0])
            if self._stopping.improves(epoch, record):
                copy_weights()
            self.is_over |= self._stopping.is_over(epoch)
        if not self.is_over:
            self._begin_epoch()
        elif not self._kept:
            copy_weights()

    def _look(self, draws: np.ndarray) -> ModelStep:
        """A step over draws [M, 2] of validation bags."""
        fit = self.task.standardisation
        rows, sizes = self._gathered.rows(draws, fit, self.config.vote)
        bags = torch.from_numpy(draws[:, 0].copy())
        return ModelStep(rows, sizes, self._targets.index_select(0, bags), None)

    def _begin_epoch(self) -> None:
        """Draw the bags of the next epoch, in their order, with all their rows."""
        given = self.task.train, len(self._history) + 1
        draws = self._batches.training_draws(*given)
        known = self._balanced, self._order, self.config.together
        shuffled = epoch_draws(draws, *known)
        fit = self.task.standardisation
        random = self.config.vote or self.config.epoch_tiles
        rows, sizes = self._gathered.rows(shuffled, fit, random)
        size, num = self.config.batch_size, len(shuffled)
        starts = range(size, num, size)
        ends = sizes.cumsum()[np.array(starts, np.int64) - 1]
        bags = torch.from_numpy(shuffled[:, 0].copy())
        targets = self._targets.index_select(0, bags).split(size)
        weights: Sequence[torch.Tensor | None] = [None] * len(targets)
        if self._weights is not None:
            weights = self._weights.index_select(0, bags).split(size)
        parts = np.split(rows, ends), np.split(sizes, starts), targets, weights
        self.ahead = [ModelStep(*step) for step in zip(*parts, strict=True)]
        self._losses = []
