"""Early stopping: which epoch's weights are kept, and when training ends."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mshisto_ray.mil.fit.config import EarlyStoppingConfig

# Share of the loss of a constant prediction that training has to get below before an
# epoch counts. A model before that has learned nothing; on few validation bags it is
# often the best by chance.
TRAINED = 0.9


def chance_loss(targets: np.ndarray) -> float:
    """Mean loss, in nats, of predicting the share of each class among the targets."""
    share = np.unique(targets, return_counts=True)[1] / len(targets)
    return float(-(share * np.log(share)).sum())


class EarlyStopping:
    """Best epoch so far, by what was watched on validation bags.

    An epoch counts if its training loss is below ``TRAINED`` times the loss of a
    constant prediction. Of two epochs with the same AUROC, which few validation bags
    often give, that of the smaller loss is better.

    Attributes:
        kept: number of the best epoch, counted from 1; 0: none counts yet.
    """

    def __init__(self, config: EarlyStoppingConfig, chance: float):
        self._config, self._limit = config, TRAINED * chance
        self._best = (-math.inf, -math.inf)
        self.kept = 0

    def improves(self, epoch: int, record: Mapping[str, float]) -> bool:
        """Whether this epoch, counted from 1, is the best so far."""
        loss = -record["val_loss"]
        watched = loss if self._config.metric == "loss" else record["val_auroc"]
        if record["bag_loss"] >= self._limit or math.isnan(watched):
            return False
        if (watched, loss) <= self._best:
            return False
        self._best, self.kept = (watched, loss), epoch
        return True

    def is_over(self, epoch: int) -> bool:
        """Whether ``patience`` epochs passed without a better one."""
        return bool(self.kept) and epoch - self.kept >= self._config.patience
