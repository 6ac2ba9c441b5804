"""Classes: a bag belongs to one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch.nn import functional

from mshisto_ray.learning import class_plots
from mshisto_ray.learning.class_labels import (
    chance_loss,
    check_two,
    in_classes,
    majority,
)
from mshisto_ray.learning.classes import Classes
from mshisto_ray.learning.metrics import METRICS, classification_metrics, decide
from mshisto_ray.learning.targets._cells import (
    Cells,
    one_hot,
)
from mshisto_ray.learning.targets._class_cells import read_classes
from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._target import Encoded, Strata, Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = " (one of several; of two classes the second is the positive one)"
PREFIX = "prob_"
# Probabilities this close to the shares of the classes say nothing about a bag (less of
# rare classes, see ``undecided``).
NEAR = 0.1


class FittedClasses(FittedTarget):
    """Class indices; with class weights, those of the training bags."""

    def __init__(self, weight: Sequence[float] | None = None):
        self.weight = weight

    def encode(self, truth: np.ndarray) -> torch.Tensor:
        """Class indices int64 [B]."""
        return torch.from_numpy(truth)

    def weights(self, truth: np.ndarray) -> torch.Tensor | None:
        """The weight of each bag's class."""
        if self.weight is None:
            return None
        return torch.tensor(self.weight, dtype=torch.float32)[torch.from_numpy(truth)]

    def link(self, outputs: torch.Tensor) -> np.ndarray:
        """Log probabilities to probabilities."""
        return outputs.exp().numpy()


@dataclass(frozen=True)
class ClassesTarget(Target):
    """``truth``: class indices int64 [N]; ``values``: probabilities [N, C]."""

    column: str = "label"
    classes: tuple[str, ...] | None = None
    others: str = "refuse"
    class_weights: str | None = None
    focal: float = 0.0

    kind = "classes"
    of_classes = True
    chooses = "auroc"
    shown = ("auroc", "pr_auc", "accuracy", "f1")
    picture = "roc_pr_calibration_confusion.png"
    titles: ClassVar[Mapping[str, str]] = {
        "auroc": "AUROC",
        "pr_auc": "PR-AUC (average precision)",
        "accuracy": "accuracy",
        "precision": "precision",
        "recall": "recall (sensitivity)",
        "specificity": "specificity",
        "f1": "F1",
    }
    remedy = "leave the class out by target.classes"
    interval_name = "score"
    interval_method = (
        "95 % score intervals over patients, which have a width at 0 and 1 too: AUROC "
        "from DeLong's variance by patient, the others from that of 1000 "
        "patient-bootstrap replicates"
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of the class."""
        return (self.column,)

    @property
    def settings(self) -> dict[str, Any]:
        """Without what is neutral, as they were before there were other kinds."""
        neutral = {"class_weights": None, "focal": 0.0}
        found = super().settings.items()
        return {k: v for k, v in found if k not in neutral or v != neutral[k]}

    def explain(self, names: Sequence[str]) -> str:
        """The column with its classes."""
        positive = f"; positive: {names[1]}" if len(names) == 2 else ""
        return f"{self.column}: {', '.join(names)}{positive}"

    def encode(self, cells: Sequence[Cells], rows: Sequence[str], what: str) -> Encoded:
        """Class indices of the rows with a label that is one of the classes."""
        return read_classes(
            cells, rows, what, self.column, self.classes, self.others == "leave_out"
        )

    def later(
        self, cells: Sequence[Cells], rows: Sequence[str], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows whose label is one of the classes."""
        return in_classes(cells, names)

    def strata(self, truth: np.ndarray, names: Sequence[str], folds: int) -> Strata:
        """The classes, each of which every fold needs."""
        check_two(np.bincount(truth, minlength=len(names)), names)
        return Strata(one_hot(truth, len(names)), tuple(names), tuple(names))

    def lack(self, truth: np.ndarray, names: Sequence[str], learns: bool) -> str | None:
        """A class without a bag."""
        counts = np.bincount(truth, minlength=len(names))
        if (counts > 0).all():
            return None
        missing = names[int(np.flatnonzero(counts == 0)[0])]
        return f"class {missing!r} has no bag with instances"

    def describe(self, truth: np.ndarray, names: Sequence[str]) -> str:
        """How many bags of each class."""
        sizes = np.bincount(truth, minlength=len(names))
        pairs = zip(names, sizes, strict=True)
        return ", ".join(f"{name!r} {size}" for name, size in pairs)

    def num_outputs(self, names: Sequence[str]) -> int:
        """Log probabilities."""
        return len(names)

    def fit(self, truth: np.ndarray, names: Sequence[str]) -> FittedClasses:
        """The weights of the classes, if wanted."""
        if self.class_weights is None:
            return FittedClasses()
        counts = np.bincount(truth, minlength=len(names))
        return FittedClasses((len(truth) / (len(names) * counts)).tolist())

    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> FittedClasses:
        """Weights count in training alone."""
        return FittedClasses()

    def loss(self, outputs: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Negative log likelihood, times (1 - p)^focal (Lin et al. 2017, eq. 4)."""
        each = functional.nll_loss(outputs, encoded, reduction="none")
        if self.focal == 0:
            return each
        # log p of 0 would have a gradient that is not finite.
        miss = -torch.expm1(-each.clamp(min=torch.finfo(each.dtype).tiny))
        return miss**self.focal * each

    def constant_loss(self, fitted: FittedTarget, truth: np.ndarray) -> float:
        """Of the (weighted) shares of the classes."""
        weights = fitted.weights(truth)
        if weights is None and self.focal == 0:
            return chance_loss(truth)
        each = np.ones(len(truth)) if weights is None else weights.double().numpy()
        share = np.bincount(truth, each) / each.sum()
        logs = torch.from_numpy(np.log(np.maximum(share, 1e-300))).expand(
            len(truth), -1
        )
        losses = self.loss(logs, torch.from_numpy(truth)).numpy()
        return float((losses * each).mean())

    def vote(self, values: np.ndarray) -> np.ndarray:
        """The majority; see ``majority``."""
        return majority(values)

    def metric_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Of ``learning.metrics``."""
        return METRICS

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        groups: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """``classification_metrics``."""
        return classification_metrics(values, truth, weights)

    def undecided(self, values: np.ndarray, truth: np.ndarray, num: int) -> float:
        """Share of rows whose probabilities are all near the class shares.

        Within 0.1 of them, and within half of a share below 0.2: of a class of 5 %,
        which is rightly called absent from most bags, 0 is not near.
        """
        share = np.bincount(truth, minlength=num) / len(truth)
        there = share > 0
        limit = np.minimum(NEAR, np.minimum(share, 1 - share) / 2)
        near = np.abs(values - share) < limit
        return float(near[:, there].all(1).mean())

    def truth_columns(
        self, truth: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``target``: the class."""
        return {"target": pa.array(np.asarray(names, dtype=object)[truth], pa.string())}

    def value_columns(
        self, values: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``prob_<class>`` .., ``predicted``."""
        found = {
            PREFIX + name: pa.array(np.ascontiguousarray(values[:, i]), pa.float64())
            for i, name in enumerate(names)
        }
        taken = np.asarray(names, dtype=object)[decide(values)]
        return {**found, "predicted": pa.array(taken, pa.string())}

    def read(
        self, table: pa.Table, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Class indices and probabilities."""
        index = {name: i for i, name in enumerate(names)}
        truth = np.array([index[t] for t in table["target"].to_pylist()])
        return truth, np.stack([table[PREFIX + n].to_numpy() for n in names], 1)

    def draw(
        self,
        figure: Figure,
        values: np.ndarray,
        truth: np.ndarray,
        names: Sequence[str],
    ) -> str:
        """ROC, PR, calibration, confusion."""
        return class_plots.draw(figure, values, truth, names)


def build(
    *,
    column: str = "label",
    classes: Classes | None = None,
    others: Literal["refuse", "leave_out"] = "refuse",
    class_weights: Literal["balanced"] | None = None,
    focal: Annotated[float, Field(ge=0)] = 0.0,
) -> Target:
    """Classes.

    ``column``: of the class; ``classes``: in order, null: all that occur, sorted;
    ``others``: what to do with bags of other labels; ``class_weights``: balanced: the
    loss of a class counts by the inverse of its share; ``focal``: gamma of the focal
    loss, 0: cross-entropy.
    """
    return ClassesTarget(column, classes, others, class_weights, focal)
