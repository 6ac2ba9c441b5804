"""Regression: a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets._cells import (
    Cells,
    complete,
    numbers,
    one_hot,
    quantile_codes,
)
from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._target import Encoded, Strata, Target
from mshisto_ray.statistics.agreement import regression_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = " (a number, as age)"
_GROUPS = 5


@dataclass(frozen=True)
class FittedNumber(FittedTarget):
    """Mean and standard deviation of the training bags."""

    mean: float
    std: float

    @property
    def state(self) -> dict[str, Any]:
        """``mean, std``."""
        return {"mean": self.mean, "std": self.std}

    def encode(self, truth: np.ndarray) -> torch.Tensor:
        """Standardised, float32 [B]."""
        return torch.from_numpy((truth - self.mean) / self.std).float()

    def link(self, outputs: torch.Tensor) -> np.ndarray:
        """Back to the column's unit."""
        return outputs.numpy() * self.std + self.mean


@dataclass(frozen=True)
class RegressionTarget(Target):
    """``truth``: float64 [N]; ``values``: [N, 1], both in the column's unit."""

    column: str
    loss_name: str = "mse"

    kind = "regression"
    learned = 0.95
    chooses = "r2"
    lower_is_better = frozenset({"mae", "rmse"})
    shown = ("r2", "mae", "rmse", "pearson", "spearman")
    titles: ClassVar[Mapping[str, str]] = {
        "r2": "R2",
        "mae": "mean absolute error",
        "rmse": "root mean squared error",
        "pearson": "Pearson's r",
        "spearman": "Spearman's rho",
    }
    remedy = "give more bags a number"

    @property
    def settings(self) -> dict[str, Any]:
        """Keys as in a config."""
        return {"kind": self.kind, "column": self.column, "loss": self.loss_name}

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of the number."""
        return (self.column,)

    def encode(self, cells: Sequence[Cells], rows: Sequence[str], what: str) -> Encoded:
        """Numbers of the rows that have one."""
        _, notes = complete(cells, rows, what, self.columns)
        kept, truth = self.later(cells, rows, self.columns)
        if len(truth) and np.ptp(truth) == 0:
            raise InputError(
                f"{self.column}: all {len(truth)} values are {truth[0]:g}, so there is "
                "nothing to predict: give another target.column"
            )
        return Encoded(kept, truth, self.columns, tuple(notes))

    def later(
        self, cells: Sequence[Cells], rows: Sequence[str], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have a number."""
        kept, _ = complete(cells, rows, "rows", self.columns)
        texts = [str(cells[i][0]) for i in kept]
        return kept, numbers(self.column, texts, [rows[int(i)] for i in kept])

    def strata(self, truth: np.ndarray, names: Sequence[str], folds: int) -> Strata:
        """Fifths by size; fewer where there are few bags."""
        num = max(1, min(_GROUPS, len(truth) // folds))
        labels = tuple(f"group {i + 1} of {num} by {self.column}" for i in range(num))
        return Strata(one_hot(quantile_codes(truth, num), num), labels)

    def lack(self, truth: np.ndarray, names: Sequence[str], learns: bool) -> str | None:
        """Two different numbers."""
        if len(truth) > 1 and np.ptp(truth) > 0:
            return None
        return f"{self.column} has no two different values"

    def describe(self, truth: np.ndarray, names: Sequence[str]) -> str:
        """Mean, standard deviation, range."""
        return (
            f"{self.column} {truth.mean():.4g} (standard deviation {truth.std():.3g}, "
            f"{truth.min():g} to {truth.max():g})"
        )

    def num_outputs(self, names: Sequence[str]) -> int:
        """The standardised number."""
        return 1

    def fit(self, truth: np.ndarray, names: Sequence[str]) -> FittedNumber:
        """Mean and standard deviation."""
        return FittedNumber(float(truth.mean()), float(truth.std()))

    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> FittedNumber:
        """See ``FittedNumber.state``."""
        return FittedNumber(state["mean"], state["std"])

    def loss(self, outputs: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Squared error, or Huber's with a corner at one standard deviation."""
        found, wanted = outputs[:, 0], encoded.to(outputs)
        if self.loss_name == "huber":
            return functional.huber_loss(found, wanted, reduction="none")
        return (found - wanted) ** 2

    def constant_loss(self, fitted: FittedTarget, truth: np.ndarray) -> float:
        """Of the mean."""
        encoded = fitted.encode(truth).double()
        return float(self.loss(torch.zeros(len(truth), 1).double(), encoded).mean())

    def metric_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """All are shown."""
        return self.shown

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        groups: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """``regression_metrics``."""
        return regression_metrics(values[:, 0], truth, weights)

    def truth_columns(
        self, truth: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``target``."""
        return {"target": pa.array(truth, pa.float64())}

    def value_columns(
        self, values: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``predicted``."""
        return {"predicted": pa.array(values[:, 0], pa.float64())}

    def read(
        self, table: pa.Table, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Both columns."""
        return table["target"].to_numpy(), table["predicted"].to_numpy()[:, None]

    def draw(
        self,
        figure: Figure,
        values: np.ndarray,
        truth: np.ndarray,
        names: Sequence[str],
    ) -> str:
        """Predicted against true, and the error against their mean."""
        scatter, errors = figure.subplots(1, 2)
        predicted = values[:, 0]
        ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
        scatter.plot(ends, ends, color="grey", linewidth=0.8, linestyle=":")
        scatter.plot(truth, predicted, ".", markersize=4, alpha=0.6)
        scatter.set(xlabel=self.column, ylabel="predicted", title="prediction")
        errors.axhline(0, color="grey", linewidth=0.8, linestyle=":")
        middle = (predicted + truth) / 2
        errors.plot(middle, predicted - truth, ".", markersize=4, alpha=0.6)
        errors.set(xlabel="mean of both", ylabel="predicted - true", title="error")
        return f"Predicted against true {self.column}, and the error against their mean"


def build(*, column: str, loss: Literal["mse", "huber"] = "mse") -> Target:
    """A number, standardised on the training fold; ``loss``: of one bag."""
    return RegressionTarget(column, loss)
