"""The interface of a target: everything that depends on what is predicted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import torch

from mshisto_ray.learning.targets._cells import Cells
from mshisto_ray.learning.targets._fitted import FittedTarget

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Encoded:
    """The rows of a table that take part, and what they are to be predicted as.

    ``kept``: places of the rows, int [M]; ``truth``: their targets, [M] or [M, ...],
    as the target says; ``names``: what the target resolves from the column (classes,
    ends of intervals, labels); ``notes``: a line per reason to leave rows out.
    """

    kept: np.ndarray
    truth: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Strata:
    """What folds spread evenly.

    ``of``: weights [B, S] of each bag in S strata; ``names``: of them, for messages;
    ``each_fold``: the strata that every fold needs a patient of.
    """

    of: np.ndarray
    names: tuple[str, ...]
    each_fold: tuple[str, ...] = ()


class Target(ABC):
    """What a model predicts, and how that is learned, stored, measured and shown.

    A target is known by its config; what it resolves from a column is ``names``. Its
    targets are ``truth``, its predictions ``values`` [N, V].

    Attributes:
        kind: its name in a config.
        of_classes: whether the model gives log probabilities of classes, which all
            poolings do; other targets take the outputs of those that have any.
        whole_fold: whether a step needs all training bags (``loss`` is then one number
            for all of them).
        noun: what a row is, in words.
        counted: whether rows are so many of a patient that metrics are replicated from
            counts per patient (``TileEstimates``).
        learned: share of the loss of a constant prediction that training has to get
            below before an epoch counts.
        chooses: the metric that chooses between configs and epochs.
        lower_is_better: the metrics of which less is better.
        shown: metrics of the tables; the rest is in the files.
        references: those of ``shown`` that are of no model, which others are read
            against.
        titles: metrics in words.
        picture: name of the file with ``draw``.
        remedy: what a user may do about ``lack``.
        interval_name: how bounds are made, as the files name it.
        interval_method: the same in words.
    """

    kind: ClassVar[str]
    of_classes: ClassVar[bool] = False
    whole_fold: ClassVar[bool] = False
    noun: ClassVar[str] = "bag"
    counted: ClassVar[bool] = False
    learned: ClassVar[float] = 0.9
    chooses: ClassVar[str]
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    shown: ClassVar[tuple[str, ...]]
    references: ClassVar[frozenset[str]] = frozenset()
    titles: ClassVar[Mapping[str, str]]
    picture: ClassVar[str] = "predictions.png"
    remedy: ClassVar[str] = "give more bags a target"
    interval_name: ClassVar[str] = "bootstrap"
    interval_method: ClassVar[str] = (
        "95 % percentile intervals of 1000 bootstrap replicates over patients"
    )

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns of the cohort or bag table that it reads."""

    @property
    def settings(self) -> dict[str, Any]:
        """Kind and parameters as JSON values; parts are dataclasses of these."""
        keys = {f.name: getattr(self, f.name) for f in fields(cast(Any, self))}
        return {
            "kind": self.kind,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in keys.items()},
        }

    @property
    def title(self) -> str:
        """What is predicted, in a few words."""
        return self.columns[0]

    def explain(self, names: Sequence[str]) -> str:
        """Columns, and what the names are."""
        return f"{self.title} ({self.kind})"

    @abstractmethod
    def encode(self, cells: Sequence[Cells], rows: Sequence[str], what: str) -> Encoded:
        """Read targets from the cells of ``columns``.

        Args:
            cells: of each row; None: missing.
            rows: names of the rows.
            what: the noun for rows in messages.

        Raises:
            InputError: cells that cannot be used.
        """

    @abstractmethod
    def later(
        self, cells: Sequence[Cells], rows: Sequence[str], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Targets of rows of another cohort, which need not be learnable.

        Args:
            cells: of ``columns``, row by row.
            rows: names of the rows.
            names: of the target, as it was learned.

        Returns:
            Places of the rows that have a target, int [M], and their truth.

        Raises:
            InputError: cells that cannot be used.
        """

    @abstractmethod
    def strata(self, truth: np.ndarray, names: Sequence[str], folds: int) -> Strata:
        """What ``folds`` folds of these bags spread evenly.

        Raises:
            InputError: nothing can be learned from these targets.
        """

    @abstractmethod
    def lack(self, truth: np.ndarray, names: Sequence[str], learns: bool) -> str | None:
        """What a part of a fold lacks, as the beginning of a sentence; None: nothing.

        Args:
            truth: of the part's bags.
            names: of the target.
            learns: whether a model learns from the part.
        """

    @abstractmethod
    def describe(self, truth: np.ndarray, names: Sequence[str]) -> str:
        """The targets of some bags in a few words."""

    @abstractmethod
    def num_outputs(self, names: Sequence[str]) -> int:
        """K, outputs of the model for a bag."""

    @abstractmethod
    def fit(self, truth: np.ndarray, names: Sequence[str]) -> FittedTarget:
        """Fit what depends on the bags that a model learns from."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> FittedTarget:
        """The inverse of ``FittedTarget.state``."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Loss of each bag [B]; with ``whole_fold`` a number per bag whose mean counts.

        Args:
            outputs: [B, K].
            encoded: of ``FittedTarget.encode``, [B, ...].
        """

    @abstractmethod
    def constant_loss(self, fitted: FittedTarget, truth: np.ndarray) -> float:
        """Mean loss of the best constant prediction of these bags."""

    def vote(self, values: np.ndarray) -> np.ndarray:
        """Values [V, C] of random bags of a slide to its values [C]."""
        return values.mean(0)

    def knowing(self, models: Mapping[int, Mapping[str, Any]]) -> Target:
        """The target with what its metrics need of fold models; most need nothing.

        Args:
            models: by fold, ``FittedTarget.measured_with``.
        """
        return self

    def of_another_cohort(self, fitted: Sequence[FittedTarget]) -> dict[str, Any]:
        """What metrics of patients of another cohort need; ``knowing`` takes it.

        ``fitted``: of the models that predict them.
        """
        return {}

    @abstractmethod
    def metric_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Every metric of ``measure``."""

    @abstractmethod
    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        groups: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Every metric for each of R weightings of N rows.

        Args:
            values: [N, V].
            truth: [N, ...].
            groups: the fold model of each row, [N].
            weights: [R, N]; None: one weighting of ones.

        Returns:
            ``{metric: [R]}``; NaN where one is not defined.
        """

    def undecided(self, values: np.ndarray, truth: np.ndarray, num: int) -> float:
        """Share of rows whose values say no more than the mean of all does."""
        return 0.0

    @abstractmethod
    def truth_columns(
        self, truth: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """Columns of ``predictions.parquet`` with the targets."""

    @abstractmethod
    def value_columns(
        self, values: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """Columns of ``predictions.parquet`` with the predicted values."""

    @abstractmethod
    def read(
        self, table: pa.Table, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Truth and values of a table with both kinds of columns."""

    @abstractmethod
    def draw(
        self,
        figure: Figure,
        values: np.ndarray,
        truth: np.ndarray,
        names: Sequence[str],
    ) -> str:
        """Draw predictions on an empty figure; return what it shows."""
