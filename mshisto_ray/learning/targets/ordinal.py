"""Ordinal: classes with an order, as grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from mshisto_ray.config import InputError
from mshisto_ray.learning.class_labels import chance_loss, check_two, in_classes
from mshisto_ray.learning.class_plots import draw_confusion
from mshisto_ray.learning.classes import Classes
from mshisto_ray.learning.targets._cells import (
    Cells,
    one_hot,
)
from mshisto_ray.learning.targets._class_cells import read_classes
from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._target import Encoded, Strata, Target
from mshisto_ray.learning.targets.classes import PREFIX, ClassesTarget
from mshisto_ray.statistics.agreement import quadratic_kappa
from mshisto_ray.statistics.rank_metrics import weighted_ratio

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = " (classes with an order, the lowest first)"
_LEAST_GAP = 1e-12


class FittedOrder(FittedTarget):
    """Class indices, as they are."""

    def encode(self, truth: np.ndarray) -> torch.Tensor:
        """Class indices int64 [B]."""
        return torch.from_numpy(truth)

    def link(self, outputs: torch.Tensor) -> np.ndarray:
        """Probabilities of the classes, [M, C]."""
        return log_shares(outputs).exp().numpy()


def log_shares(outputs: torch.Tensor) -> torch.Tensor:
    """Outputs [M, C - 1] to log probabilities [M, C] of ordered classes.

    The first output is the logit of a class above the lowest; each further one lowers
    it by its softplus, so that the logits c_k of "above class k" fall. P(k) =
    sigm(c_{k-1}) - sigm(c_k) = sigm(c_{k-1}) sigm(-c_k) (1 - exp(c_k - c_{k-1})).

    Source: McCullagh 1980, cumulative logits; here each bag has distances of its own
    between them, where proportional odds have the same for all.
    """
    gaps = functional.softplus(outputs[:, 1:]).clamp(min=_LEAST_GAP)
    cumulative = torch.cat([outputs[:, :1], -gaps], 1).cumsum(1)
    above = functional.pad(functional.logsigmoid(cumulative), (1, 0))
    below = functional.pad(functional.logsigmoid(-cumulative), (0, 1))
    between = functional.pad(torch.log(-torch.expm1(-gaps)), (1, 1))
    return above + below + between


@dataclass(frozen=True)
class OrdinalTarget(Target):
    """``truth``: class indices int64 [N]; ``values``: probabilities [N, C].

    The predicted class is the median: the first that reaches a half with those below.
    """

    column: str = "label"
    classes: tuple[str, ...] | None = None

    kind = "ordinal"
    learned = 0.95
    chooses = "kappa"
    lower_is_better = frozenset({"mae"})
    shown = ("kappa", "mae", "accuracy")
    titles: ClassVar[Mapping[str, str]] = {
        "kappa": "quadratic weighted kappa",
        "mae": "mean absolute error, in classes",
        "accuracy": "accuracy",
    }
    remedy = "leave the class out by target.classes"

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of the class."""
        return (self.column,)

    def encode(self, cells: Sequence[Cells], rows: Sequence[str], what: str) -> Encoded:
        """As of classes; without ``classes`` the labels have to be numbers."""
        found = read_classes(cells, rows, what, self.column, self.classes)
        words = [name for name in found.names if not _is_number(name)]
        if self.classes is None and words:
            raise InputError(
                f"{self.column}: {', '.join(map(repr, words[:5]))} have no order: give "
                "target.classes, the lowest first"
            )
        return found

    def later(
        self, cells: Sequence[Cells], rows: Sequence[str], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose label is one of the classes."""
        return in_classes(cells, names)

    def strata(self, truth: np.ndarray, names: Sequence[str], folds: int) -> Strata:
        """The classes."""
        check_two(np.bincount(truth, minlength=len(names)), names)
        return Strata(one_hot(truth, len(names)), tuple(names))

    def lack(self, truth: np.ndarray, names: Sequence[str], learns: bool) -> str | None:
        """Two classes."""
        present = np.unique(truth)
        if len(present) > 1:
            return None
        return f"{self.column} has no two classes with bags"

    def describe(self, truth: np.ndarray, names: Sequence[str]) -> str:
        """How many bags of each class."""
        return ClassesTarget(self.column).describe(truth, names)

    def explain(self, names: Sequence[str]) -> str:
        """The column with its classes in order."""
        return f"{self.column}: {' < '.join(names)}"

    def num_outputs(self, names: Sequence[str]) -> int:
        """Cumulative logits."""
        return len(names) - 1

    def fit(self, truth: np.ndarray, names: Sequence[str]) -> FittedTarget:
        """Nothing."""
        return FittedOrder()

    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> FittedTarget:
        """Nothing."""
        return FittedOrder()

    def loss(self, outputs: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood."""
        return functional.nll_loss(log_shares(outputs), encoded, reduction="none")

    def constant_loss(self, fitted: FittedTarget, truth: np.ndarray) -> float:
        """Of the shares of the classes."""
        return chance_loss(truth)

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
        """Of the median class."""
        if weights is None:
            weights = np.ones((1, len(truth)))
        predicted = median_class(values)
        total = weights.sum(1)
        errors = np.abs(predicted - truth).astype(float)
        hits = (predicted == truth).astype(float)
        return {
            "kappa": quadratic_kappa(predicted, truth, values.shape[1], weights),
            "mae": weighted_ratio(weights @ errors, total),
            "accuracy": weighted_ratio(weights @ hits, total),
        }

    def truth_columns(
        self, truth: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``target``: the class."""
        return {"target": pa.array(np.asarray(names, dtype=object)[truth], pa.string())}

    def value_columns(
        self, values: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``prob_<class>`` .., ``predicted``: the median class."""
        found = {PREFIX + n: pa.array(c) for n, c in zip(names, values.T, strict=True)}
        taken = np.asarray(names, dtype=object)[median_class(values)]
        return {**found, "predicted": pa.array(taken, pa.string())}

    def read(
        self, table: pa.Table, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Class indices and probabilities."""
        return ClassesTarget(self.column).read(table, names)

    def draw(
        self,
        figure: Figure,
        values: np.ndarray,
        truth: np.ndarray,
        names: Sequence[str],
    ) -> str:
        """Confusion, and how far off predictions are."""
        confusion, errors = figure.subplots(1, 2)
        taken = one_hot(median_class(values), len(names))
        draw_confusion(confusion, taken, truth, names)
        off = median_class(values) - truth
        steps = np.arange(1 - len(names), len(names))
        errors.bar(steps, [(off == step).mean() for step in steps])
        errors.set(xlabel="predicted - true, in classes", ylabel="share of bags")
        return "Confusion, and how far off predictions are"


def median_class(probabilities: np.ndarray) -> np.ndarray:
    """The first class of each row [N, C] that reaches a half with those below."""
    return (probabilities.cumsum(1)[:, :-1] < 0.5).sum(1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def build(*, column: str = "label", classes: Classes | None = None) -> Target:
    """Ordered classes.

    ``classes``: the lowest first; null: all that occur, which then are numbers.
    """
    return OrdinalTarget(column, classes)
