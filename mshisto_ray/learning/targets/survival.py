"""Survival: the time to an event, which may lie beyond what was observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from mshisto_ray.learning.targets._cells import Cells, complete, few_notes
from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._fitted_survival import (
    FittedHazards,
    restore_cox,
)
from mshisto_ray.learning.targets._follow_up import (
    RISK,
    FollowUp,
    follow_up,
    horizon_names,
    of_another_cohort,
    read_follow_up,
)
from mshisto_ray.learning.targets._hazards import (
    constant_logits,
    cox_loss,
    hazard_loss,
)
from mshisto_ray.learning.targets._survival_cells import (
    check_times,
    describe_times,
    interval_ends,
    read_times,
    survival_strata,
)
from mshisto_ray.learning.targets._survival_columns import (
    read_columns,
    truth_columns,
    value_columns,
)
from mshisto_ray.learning.targets._survival_metrics import (
    C_INDEX,
    OF_TIMES,
    TITLES,
    means_over_folds,
)
from mshisto_ray.learning.targets._survival_plots import draw_survival
from mshisto_ray.learning.targets._target import Encoded, Strata, Target
from mshisto_ray.statistics.survival.concordance import harrell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = " (columns of the time and of the event: 1, or 0 for censored)"


@dataclass(frozen=True)
class SurvivalTarget(Target):
    """``truth``: time and event (1, 0), float64 [N, 2].

    ``names``: of Cox ``risk``, in discrete time the ends of the K intervals, then the
    times that survival is predicted for, without those that are ends. ``values``: risk,
    and the share that lives beyond each of these times, [N, 1 + K + H]. ``models``: by
    fold, the follow-up of the bags that its model learned from.
    """

    time: str
    event: str
    loss_name: str = "cox"
    intervals: int = 4
    horizons: tuple[float, ...] | None = None
    models: Mapping[int, FollowUp] = field(
        default_factory=dict, compare=False, repr=False
    )

    kind = "survival"
    chooses = C_INDEX
    shown = (C_INDEX, *OF_TIMES)
    references = frozenset({"brier_kaplan_meier"})
    lower_is_better = frozenset({"brier", "brier_kaplan_meier"})
    titles: ClassVar[Mapping[str, str]] = TITLES
    remedy = "take a column with more events"

    @property
    def whole_fold(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """A risk set of Cox is everyone still at risk in the training fold."""
        return self.loss_name == "cox"

    @property
    def learned(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Partial likelihoods hardly fall: C = .65 is about .02 to .05 of them."""
        return 0.99 if self.whole_fold else 0.98

    @property
    def settings(self) -> dict[str, Any]:
        """Keys as in a config."""
        keys = {"time": self.time, "event": self.event, "loss": self.loss_name}
        # Without them it is as it was before they could be given.
        more = {"horizons": list(self.horizons)} if self.horizons else {}
        return {"kind": self.kind, **keys, "intervals": self.intervals, **more}

    @property
    def columns(self) -> tuple[str, ...]:
        """Time and event."""
        return (self.time, self.event)

    def encode(self, cells: Sequence[Cells], rows: Sequence[str], what: str) -> Encoded:
        """Times and events of the rows that have both.

        In discrete time the ends of the intervals are quantiles of the times of events,
        and the largest time. Ends and horizons are the same for all folds.
        """
        _, notes = complete(cells, rows, what, self.columns)
        kept, truth = self.later(cells, rows, ())
        check_times(truth, what, self.time, self.event)
        time, event = truth.T
        notes += few_notes(self.event, int(event.sum()), "with an event")
        ends = (
            (RISK,)
            if self.whole_fold
            else interval_ends(time, event, self.intervals, self.time)
        )
        found = horizon_names(time, self.horizons, self.time)
        more = tuple(name for name in found if name not in ends)
        return Encoded(kept, truth, (*ends, *more), tuple(notes))

    def later(
        self, cells: Sequence[Cells], rows: Sequence[str], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have both columns."""
        return read_times(cells, rows, self.time, self.event)

    def strata(self, truth: np.ndarray, names: Sequence[str], folds: int) -> Strata:
        """Events, and censored bags, by quarters of their times."""
        return survival_strata(truth, folds)

    def lack(self, truth: np.ndarray, names: Sequence[str], learns: bool) -> str | None:
        """An event, and who outlived it."""
        if not (truth[:, 1] > 0).any():
            return f"{self.event}: no event"
        time, event = truth.T
        if np.isnan(harrell(time, event, time, equal_times=True)[0]):
            return f"{self.time}: nobody who outlived an event"
        return None

    def describe(self, truth: np.ndarray, names: Sequence[str]) -> str:
        """Events, times, and how far survival is predicted."""
        last = max(map(float, names[self._width :]), default=0.0)
        return describe_times(truth, self.time, self.event, last)

    @property
    def title(self) -> str:
        """Event and time."""
        return f"{self.event} by {self.time}"

    @property
    def _width(self) -> int:
        """Outputs of a model, the first of the names."""
        return 1 if self.whole_fold else self.intervals

    def num_outputs(self, names: Sequence[str]) -> int:
        """A log hazard, or the logit of the hazard in each interval."""
        return self._width

    def fit(self, truth: np.ndarray, names: Sequence[str]) -> FittedTarget:
        """With the follow-up of the training bags."""
        if self.horizons is not None:
            given = [f"{h:.12g}" for h in sorted(set(self.horizons))]
        else:
            given = names[self._width :]
        first = 0 if self.whole_fold else 1
        places = [names.index(name) + first for name in given]
        known = follow_up(truth, [float(name) for name in given], places)
        return self.restore(known.state, names)

    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> FittedTarget:
        """From the state; the ends of intervals from the names."""
        if self.whole_fold:
            return restore_cox(state)
        times = tuple(float(name) for name in names)
        ends, more = times[: self._width], times[self._width :]
        return FittedHazards(ends, more, read_follow_up(state))

    def knowing(self, models: Mapping[int, Mapping[str, Any]]) -> Target:
        """With the follow-up of the bags that each fold model learned from."""
        found = {fold: read_follow_up(state) for fold, state in models.items()}
        return replace(self, models={f: one for f, one in found.items() if one})

    def of_another_cohort(self, fitted: Sequence[FittedTarget]) -> dict[str, Any]:
        """With a censoring of their own; see ``_follow_up.of_another_cohort``."""
        known = [read_follow_up(one.measured_with) for one in fitted]
        models = [one for one in known if one]
        return of_another_cohort(models).state if models else {}

    def loss(self, outputs: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """See ``cox_loss`` and ``hazard_loss``."""
        first, event = encoded[:, 0], encoded[:, 1]
        if self.whole_fold:
            return cox_loss(outputs[:, 0], first, event)
        return hazard_loss(outputs, first, event)

    def constant_loss(self, fitted: FittedTarget, truth: np.ndarray) -> float:
        """Of equal hazards: of all rows, or in each interval of those at risk."""
        encoded = fitted.encode(truth)
        if self.whole_fold:
            outputs = torch.zeros(len(truth), 1, dtype=torch.float64)
        else:
            outputs = constant_logits(encoded, self.intervals).expand(len(truth), -1)
        return float(self.loss(outputs, encoded).mean())

    def metric_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Harrell's C; where the models are known, those of times too."""
        return self.shown if self.models else (C_INDEX,)

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        groups: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Means over fold models, whose risks have no common scale.

        Folds in which a metric is not defined are left out of its mean.
        """
        if weights is None:
            weights = np.ones((1, len(truth)))
        given = values, truth, groups, weights, self.models
        return means_over_folds(*given, self.metric_names(()))

    def truth_columns(
        self, truth: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``time, event``."""
        return truth_columns(truth)

    def value_columns(
        self, values: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``risk``, and ``survival_<time>`` of each end and horizon."""
        return value_columns(values, names)

    def read(
        self, table: pa.Table, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Times and events, risks and shares."""
        return read_columns(table, names)

    def draw(
        self,
        figure: Figure,
        values: np.ndarray,
        truth: np.ndarray,
        names: Sequence[str],
    ) -> str:
        """Risk, Kaplan-Meier's curves by quarters of it, and calibration."""
        given = figure, values[:, 0], truth, self.time, self.event
        times = np.array([float(name) for name in names if name != RISK])
        if not self.whole_fold:  # nobody outlives the last end
            times = np.where(times < float(names[self._width - 1]), times, -1.0)
        if not len(times):
            return draw_survival(*given)
        last = int(times.argmax())
        return draw_survival(*given, (float(times[last]), values[:, 1 + last]))


def build(
    *,
    time: str,
    event: str,
    loss: Literal["cox", "discrete"] = "cox",
    intervals: Annotated[int, Field(ge=2, le=50)] = 4,
    horizons: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None,
        Field(min_length=1),
    ] = None,
) -> Target:
    """The time to an event.

    ``loss``: cox, one step an epoch on the whole training fold, or discrete, hazards in
    ``intervals`` that hold equally many events; ``horizons``: times that survival is
    predicted and measured for, null: ten up to the time that a tenth of the patients is
    observed beyond.
    """
    return SurvivalTarget(time, event, loss, intervals, horizons)
