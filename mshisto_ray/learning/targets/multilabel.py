"""Several labels of a bag, each yes or no or unknown, as mutations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from pydantic import AfterValidator, Field
from torch.nn import functional

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets._cells import (
    Cells,
    few_notes,
    left_out,
)
from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._label_plots import draw_labels
from mshisto_ray.learning.targets._target import Encoded, Strata, Target
from mshisto_ray.learning.targets.classes import PREFIX
from mshisto_ray.statistics.rank_metrics import mean_of_known, rank_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = " (columns of 1, 0 or nothing, where it is not known)"
_TARGET = "target_"
_VALUES = {"0": 0.0, "1": 1.0, "False": 0.0, "True": 1.0, None: np.nan}


class FittedLabels(FittedTarget):
    """Labels as they are, NaN where unknown."""

    def encode(self, truth: np.ndarray) -> torch.Tensor:
        """1, 0 or NaN, float32 [B, L]."""
        return torch.from_numpy(truth).float()

    def link(self, outputs: torch.Tensor) -> np.ndarray:
        """Probabilities."""
        return outputs.sigmoid().numpy()


@dataclass(frozen=True)
class MultilabelTarget(Target):
    """``truth``: 1, 0 or NaN, float64 [N, L]; ``values``: probabilities [N, L]."""

    labels: tuple[str, ...]

    kind = "multilabel"
    learned = 0.97
    chooses = "auroc"
    shown = ("auroc", "pr_auc")
    titles: ClassVar[Mapping[str, str]] = {
        "auroc": "mean AUROC",
        "pr_auc": "mean PR-AUC (average precision)",
    }
    remedy = "leave the label out of target.labels"

    @property
    def columns(self) -> tuple[str, ...]:
        """The labels."""
        return self.labels

    @property
    def title(self) -> str:
        """The labels."""
        return ", ".join(self.labels)

    def encode(self, cells: Sequence[Cells], rows: Sequence[str], what: str) -> Encoded:
        """Labels of the rows for which at least one is known."""
        truth = self._read(cells, rows)
        known = np.isfinite(truth).any(1)
        notes = []
        if not known.all():
            without = [rows[int(i)] for i in np.flatnonzero(~known)]
            notes.append(left_out(without, len(rows), what, "no label is known"))
        for label, column in zip(self.labels, truth.T, strict=True):
            have = sorted(set(column[np.isfinite(column)].astype(int).tolist()))
            if have != [0, 1]:
                only = f"is only {have[0]}" if have else "is never known"
                raise InputError(
                    f"{label}: {only}, so nothing can be learned: {self.remedy}"
                )
            rare = int((column == 1).sum()), int((column == 0).sum())
            notes += few_notes(label, min(rare), f"with a {int(rare[0] <= rare[1])}")
        return Encoded(np.flatnonzero(known), truth[known], self.labels, tuple(notes))

    def _read(self, cells: Sequence[Cells], rows: Sequence[str]) -> np.ndarray:
        for place, label in enumerate(self.labels):
            wrong = [
                f"{name} ({row[place]!r})"
                for name, row in zip(rows, cells, strict=True)
                if row[place] not in _VALUES
            ]
            if wrong:
                raise InputError(
                    f"{label}: {len(wrong)} of {len(rows)} values are neither 1 nor 0: "
                    f"{', '.join(wrong[:3])}{', ...' if wrong[3:] else ''}; leave a "
                    "cell empty where the label is not known"
                )
        found = [[_VALUES[cell] for cell in row] for row in cells]
        return np.array(found).reshape(len(cells), len(self.labels))

    def later(
        self, cells: Sequence[Cells], rows: Sequence[str], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows for which at least one label is known."""
        truth = self._read(cells, rows)
        known = np.flatnonzero(np.isfinite(truth).any(1))
        return known, truth[known]

    def strata(self, truth: np.ndarray, names: Sequence[str], folds: int) -> Strata:
        """Sets of labels: those that are 1, those that are known, and all bags.

        Source: Sechidis, Tsoumakas, Vlahavas 2011, iterative stratification.
        """
        known = np.isfinite(truth)
        parts = [truth == 1, known, np.ones((len(truth), 1), bool)]
        labels = [f"{n} 1" for n in names] + [f"{n} known" for n in names] + ["all"]
        return Strata(np.concatenate(parts, 1).astype(np.int64), tuple(labels))

    def lack(self, truth: np.ndarray, names: Sequence[str], learns: bool) -> str | None:
        """Of some label the bags that have it, or those that do not."""
        for name, column in zip(names, truth.T, strict=True):
            for value in (1, 0):
                if learns and not (column == value).any():
                    return f"label {name!r} has no bag with {value}"
        has = ((truth == 1).any(0) & (truth == 0).any(0)).any()
        return None if has else "no label has bags with 1 and with 0"

    def describe(self, truth: np.ndarray, names: Sequence[str]) -> str:
        """How many of the known are 1, label by label."""
        ones, known = (truth == 1).sum(0), np.isfinite(truth).sum(0)
        return ", ".join(
            f"{name!r} {one} of {num}"
            for name, one, num in zip(names, ones, known, strict=True)
        )

    def num_outputs(self, names: Sequence[str]) -> int:
        """A logit for each label."""
        return len(names)

    def fit(self, truth: np.ndarray, names: Sequence[str]) -> FittedTarget:
        """Nothing."""
        return FittedLabels()

    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> FittedTarget:
        """Nothing."""
        return FittedLabels()

    def loss(self, outputs: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy summed over the known labels of a bag, divided by L.

        So each known label of the cohort counts alike.
        """
        known = torch.isfinite(encoded)
        wanted = torch.where(known, encoded, 0).to(outputs)
        each = functional.binary_cross_entropy_with_logits(
            outputs, wanted, reduction="none"
        )
        return (each * known).sum(1) / outputs.shape[1]

    def constant_loss(self, fitted: FittedTarget, truth: np.ndarray) -> float:
        """Of each label's share of 1 among the known."""
        known = np.isfinite(truth)
        share = np.nansum(truth, 0) / np.maximum(known.sum(0), 1)
        share = np.clip(share, 1e-9, 1 - 1e-9)
        logits = torch.from_numpy(np.log(share / (1 - share)))
        encoded = torch.from_numpy(truth)
        return float(self.loss(logits.expand(len(truth), -1), encoded).mean())

    def metric_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """The means, then AUROC and its label."""
        return (*self.shown, *(f"auroc_{name}" for name in names))

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        groups: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Of the known labels; means over the labels that have both 1 and 0."""
        if weights is None:
            weights = np.ones((1, len(truth)))
        found: dict[str, list[np.ndarray]] = {"auroc": [], "pr_auc": []}
        for column, scores in zip(truth.T, values.T, strict=True):
            rows = np.isfinite(column)
            if not rows.any():
                nothing = np.full(len(weights), np.nan)
                ranks = {"auroc": nothing, "pr_auc": nothing}
            else:
                is_one = column[rows] == 1
                ranks = rank_metrics(scores[rows], is_one, weights[:, rows])
                ranks["pr_auc"] = np.where(
                    np.isnan(ranks["auroc"]), np.nan, ranks["pr_auc"]
                )
            for name, value in ranks.items():
                found[name].append(value)
        means = {name: mean_of_known(np.array(each)) for name, each in found.items()}
        pairs = zip(self.labels, found["auroc"], strict=True)
        return means | {f"auroc_{label}": value for label, value in pairs}

    def truth_columns(
        self, truth: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``target_<label>`` .., null where unknown."""
        columns = {}
        for name, column in zip(names, truth.T, strict=True):
            known = np.isfinite(column)
            values = np.where(known, column, 0).astype(np.int8)
            columns[_TARGET + name] = pa.array(values, pa.int8(), mask=~known)
        return columns

    def value_columns(
        self, values: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``prob_<label>`` .."""
        return {
            PREFIX + name: pa.array(column, pa.float64())
            for name, column in zip(names, values.T, strict=True)
        }

    def read(
        self, table: pa.Table, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels and probabilities."""
        truth = [table[_TARGET + n].cast(pa.float64()).to_numpy() for n in names]
        values = [table[PREFIX + n].to_numpy() for n in names]
        return np.stack(truth, 1), np.stack(values, 1)

    def draw(
        self,
        figure: Figure,
        values: np.ndarray,
        truth: np.ndarray,
        names: Sequence[str],
    ) -> str:
        """ROC curves, and AUROC with the number of known labels."""
        found = self.measure(values, truth, np.zeros(len(truth)))
        areas = [float(found[f"auroc_{name}"][0]) for name in names]
        return draw_labels(figure, values, truth, names, areas)


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) < len(labels):
        raise ValueError("give each label once")
    return labels


Labels = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_distinct)]


def build(*, labels: Labels) -> Target:
    """Labels of their own; ``labels``: their columns, of 1, 0 or nothing."""
    return MultilabelTarget(labels)
