"""Survival as a fold model has it: from outputs to risks and probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._follow_up import FollowUp, read_follow_up
from mshisto_ray.statistics.survival.breslow import cumulative_baseline

_LARGEST = 700.0  # that exp can take


@dataclass(frozen=True)
class Baseline:
    """Cumulative hazard of the training bags' mean log hazard at each horizon, [H]."""

    mean: float
    hazards: np.ndarray

    def survival(self, log_hazard: np.ndarray) -> np.ndarray:
        """Probability to live beyond each horizon, [M, H], of log hazards [M]."""
        relative = np.exp(np.minimum(log_hazard - self.mean, _LARGEST))
        with np.errstate(over="ignore"):  # exp of less than any number is 0
            return np.exp(-self.hazards * relative[:, None])


@dataclass(frozen=True)
class FittedCox(FittedTarget):
    """The follow-up of the training bags, and the baseline of the trained model.

    Both are None in a model of an earlier version, which predicts risks alone.
    """

    known: FollowUp | None = None
    baseline: Baseline | None = None

    of_outputs = True

    @property
    def state(self) -> dict[str, Any]:
        """Follow-up and baseline."""
        found = self.measured_with
        if self.baseline:
            hazards = self.baseline.hazards.tolist()
            found |= {"mean_log_hazard": self.baseline.mean, "baseline": hazards}
        return found

    @property
    def measured_with(self) -> dict[str, Any]:
        """The follow-up."""
        return self.known.state if self.known else {}

    def after(self, outputs: torch.Tensor, truth: np.ndarray) -> FittedTarget:
        """With Breslow's baseline of the training bags."""
        if self.known is None:
            return self
        log_hazard, (time, event) = outputs[:, 0].numpy(), truth.T
        mean = float(log_hazard.mean())
        centred = np.minimum(log_hazard - mean, _LARGEST)
        found = cumulative_baseline(time, event, centred, self.known.horizons)
        return replace(self, baseline=Baseline(mean, found))

    def encode(self, truth: np.ndarray) -> torch.Tensor:
        """Time and event, float64 [B, 2]: no two times become equal."""
        return torch.from_numpy(truth)

    def link(self, outputs: torch.Tensor) -> np.ndarray:
        """Log hazard, up to a constant, then the share that lives beyond each horizon.

        [M, 1 + H]; without a baseline the log hazard alone, [M, 1].
        """
        values = outputs.numpy()
        if self.baseline is None:
            return values
        return np.concatenate([values, self.baseline.survival(values[:, 0])], 1)


def restore_cox(state: Mapping[str, Any]) -> FittedCox:
    """The inverse of ``FittedCox.state``."""
    if "baseline" not in state:
        return FittedCox(read_follow_up(state))
    hazards = np.array(state["baseline"], float)
    baseline = Baseline(float(state["mean_log_hazard"]), hazards)
    return FittedCox(read_follow_up(state), baseline)


@dataclass(frozen=True)
class FittedHazards(FittedTarget):
    """``ends``: of the intervals, the last one's is the largest time known.

    ``more``: other times that survival is predicted for; ``known``: the follow-up of
    the training bags, None in a model of an earlier version.
    """

    ends: tuple[float, ...]
    more: tuple[float, ...] = ()
    known: FollowUp | None = None

    @property
    def state(self) -> dict[str, Any]:
        """The follow-up."""
        return self.measured_with

    @property
    def measured_with(self) -> dict[str, Any]:
        """The follow-up."""
        return self.known.state if self.known else {}

    def encode(self, truth: np.ndarray) -> torch.Tensor:
        """Interval and event, int64 [B, 2]; an interval includes its end."""
        place = np.searchsorted(np.array(self.ends), truth[:, 0], side="left")
        died = truth[:, 1] > 0
        # Who is censored at the very end of an interval has lived through it.
        after = np.searchsorted(np.array(self.ends), truth[:, 0], side="right")
        place = np.where(died, place, after)
        return torch.from_numpy(np.stack([place, died], 1).astype(np.int64))

    def link(self, outputs: torch.Tensor) -> np.ndarray:
        """Risk, then the share that lives beyond each end, [M, 1 + K + H].

        Risk: less the mean of these shares, so that a sooner event is a higher risk.
        After them the shares at ``more``: within an interval the hazard is constant.
        """
        logs = functional.logsigmoid(-outputs).cumsum(1)
        lived = logs.exp().numpy()
        between = np.exp(_interpolate(logs.numpy(), self.ends, self.more))
        return np.concatenate([-lived.mean(1, keepdims=True), lived, between], 1)


def _interpolate(
    logs: np.ndarray, ends: Sequence[float], times: Sequence[float]
) -> np.ndarray:
    """Logarithms [M, K] at the ends, linear in between from 0 at 0, at times [H]."""
    grid = np.array([0.0, *ends])
    whole = np.concatenate([np.zeros((len(logs), 1)), logs], 1)
    at = np.array(times, float)
    right = np.searchsorted(grid, at, side="left").clip(1, len(grid) - 1)
    width = grid[right] - grid[right - 1]
    share = (at - grid[right - 1]) / np.where(width > 0, width, 1.0)
    return whole[:, right - 1] * (1 - share) + whole[:, right] * share
