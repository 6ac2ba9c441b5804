"""Early stopping: which epoch's weights are kept, and when training ends."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mshisto_ray.learning.targets import Target
from mshisto_ray.mil.fit.config import EarlyStoppingConfig


class EarlyStopping:
    """Best epoch so far, by what was watched on validation bags.

    An epoch counts if its training loss is below that of a constant prediction, times
    the target's ``learned``: a model before that has learned nothing; on few validation
    bags it is often the best by chance. Of two epochs with the same metric, which few
    validation bags often give, that of the smaller loss is better.

    Attributes:
        kept: number of the best epoch, counted from 1; 0: none counts yet.
    """

    def __init__(self, config: EarlyStoppingConfig, chance: float, target: Target):
        self._config, self._limit = config, target.learned * chance
        self._sign = -1 if config.metric in target.lower_is_better else 1
        self._best = (-math.inf, -math.inf)
        self.kept = 0

    def improves(self, epoch: int, record: Mapping[str, float]) -> bool:
        """Whether this epoch, counted from 1, is the best so far."""
        loss = -record["val_loss"]
        metric = self._config.metric
        watched = loss if metric == "loss" else self._sign * record[f"val_{metric}"]
        if record["bag_loss"] >= self._limit or math.isnan(watched):
            return False
        if (watched, loss) <= self._best:
            return False
        self._best, self.kept = (watched, loss), epoch
        return True

    def is_over(self, epoch: int) -> bool:
        """Whether ``patience`` epochs passed without a better one."""
        return bool(self.kept) and epoch - self.kept >= self._config.patience
