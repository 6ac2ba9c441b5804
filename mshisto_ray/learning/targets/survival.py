"""Survival: the time to an event, which may lie beyond what was observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from mshisto_ray.config import InputError
from mshisto_ray.learning.targets._cells import (
    Cells,
    complete,
    one_hot,
    quantile_codes,
)
from mshisto_ray.learning.targets._fitted import FittedTarget
from mshisto_ray.learning.targets._hazards import (
    FittedCox,
    FittedHazards,
    cox_loss,
    hazard_loss,
)
from mshisto_ray.learning.targets._survival_cells import interval_ends, read_times
from mshisto_ray.learning.targets._survival_plots import draw_survival
from mshisto_ray.learning.targets._target import Encoded, Strata, Target
from mshisto_ray.statistics.rank_metrics import mean_of_known
from mshisto_ray.statistics.survival.concordance import harrell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY = " (columns of the time and of the event: 1, or 0 for censored)"
_GROUPS = 4


@dataclass(frozen=True)
class SurvivalTarget(Target):
    """``truth``: time and event (1, 0), float64 [N, 2].

    ``values``: risk [N, 1], and in discrete time the shares that live beyond the end of
    each interval, [N, 1 + K]; ``names`` are these ends.
    """

    time: str
    event: str
    loss_name: str = "cox"
    intervals: int = 4

    kind = "survival"
    chooses = "c_index"
    shown = ("c_index",)
    titles: ClassVar[Mapping[str, str]] = {"c_index": "Harrell's C"}
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
        return {"kind": self.kind, **keys, "intervals": self.intervals}

    @property
    def columns(self) -> tuple[str, ...]:
        """Time and event."""
        return (self.time, self.event)

    def encode(self, cells: Sequence[Cells], rows: Sequence[str], what: str) -> Encoded:
        """Times and events of the rows that have both.

        In discrete time the ends of the intervals are quantiles of the times of events,
        and the largest time: a grid of times, the same for all folds.
        """
        _, notes = complete(cells, rows, what, self.columns)
        kept, truth = self.later(cells, rows, ())
        time, event = truth.T
        if len(time) and len(set(event.tolist())) == 1 and not event[0]:
            raise InputError(
                f"{self.event}: no event among {len(event)} {what}, and survival is "
                "learned from events: is it the right column, and 1 the event?"
            )
        if len(time) and np.ptp(time) == 0:
            raise InputError(
                f"{self.time}: all {len(time)} times are {time[0]:g}, so nothing can "
                "be learned from them: is it the right column?"
            )
        ends = (
            ("risk",)
            if self.whole_fold
            else interval_ends(time, event, self.intervals, self.time)
        )
        return Encoded(kept, truth, ends, tuple(notes))

    def later(
        self, cells: Sequence[Cells], rows: Sequence[str], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that have both columns."""
        return read_times(cells, rows, self.time, self.event)

    def strata(self, truth: np.ndarray, names: Sequence[str], folds: int) -> Strata:
        """Events, and censored bags, by quarters of their times."""
        died = truth[:, 1] > 0
        parts, labels = [died.astype(np.int64)[:, None]], ["with an event"]
        for state, name in ((died, "event"), (~died, "censored")):
            if not state.any():
                continue
            num = max(1, min(_GROUPS, int(state.sum()) // folds))
            codes = np.zeros((len(truth), num), np.int64)
            codes[state] = one_hot(quantile_codes(truth[state, 0], num), num)
            parts.append(codes)
            labels += [f"{name}, group {i + 1} of {num}" for i in range(num)]
        return Strata(np.concatenate(parts, 1), tuple(labels), ("with an event",))

    def lack(self, truth: np.ndarray, names: Sequence[str], learns: bool) -> str | None:
        """An event, and who outlived it."""
        if not (truth[:, 1] > 0).any():
            return f"{self.event}: no event"
        time, event = truth.T
        if np.isnan(harrell(time, event, time, equal_times=True)[0]):
            return f"{self.time}: nobody who outlived an event"
        return None

    def describe(self, truth: np.ndarray, names: Sequence[str]) -> str:
        """Events and times."""
        return (
            f"{int(truth[:, 1].sum())} with an event ({self.event}), {self.time} "
            f"{np.median(truth[:, 0]):.4g} (median, up to {truth[:, 0].max():.4g})"
        )

    @property
    def title(self) -> str:
        """Event and time."""
        return f"{self.event} by {self.time}"

    def num_outputs(self, names: Sequence[str]) -> int:
        """A log hazard, or the logit of the hazard in each interval."""
        return len(names)

    def fit(self, truth: np.ndarray, names: Sequence[str]) -> FittedTarget:
        """The same for all folds."""
        return self.restore({}, names)

    def restore(self, state: Mapping[str, Any], names: Sequence[str]) -> FittedTarget:
        """From the names."""
        if self.whole_fold:
            return FittedCox()
        return FittedHazards(tuple(float(name) for name in names))

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
            return float(self.loss(outputs, encoded).mean())
        assert isinstance(fitted, FittedHazards)
        place, died = encoded[:, 0].numpy(), encoded[:, 1].numpy() > 0
        steps = np.arange(len(fitted.ends))
        events = ((place[:, None] == steps) & died[:, None]).sum(0)
        at_risk = (place[:, None] > steps).sum(0) + events
        hazard = np.clip(events / np.maximum(at_risk, 1), 1e-9, 1 - 1e-9)
        logits = torch.from_numpy(np.log(hazard / (1 - hazard)))
        return float(self.loss(logits.expand(len(truth), -1), encoded).mean())

    def metric_names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Harrell's C."""
        return self.shown

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        groups: np.ndarray,
        weights: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """``c_index``: the mean over fold models, whose risks have no common scale.

        Folds in which no pair can be compared are left out.
        """
        if weights is None:
            weights = np.ones((1, len(truth)))
        found = []
        for group in np.unique(groups):
            rows = groups == group
            time, event = truth[rows].T
            given = time, event, values[rows, 0], weights[:, rows]
            found.append(harrell(*given, equal_times=True))
        return {"c_index": mean_of_known(np.array(found))}

    def truth_columns(
        self, truth: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``time, event``."""
        known = np.isfinite(truth[:, 1])
        event = pa.array(np.where(known, truth[:, 1], 0), pa.int8(), mask=~known)
        return {"time": pa.array(truth[:, 0], pa.float64()), "event": event}

    def value_columns(
        self, values: np.ndarray, names: Sequence[str]
    ) -> dict[str, pa.Array]:
        """``risk``, in discrete time ``survival_<end>`` .. too."""
        labels = ["risk"] + [f"survival_{n}" for n in names if not self.whole_fold]
        return {
            n: pa.array(c, pa.float64()) for n, c in zip(labels, values.T, strict=True)
        }

    def read(
        self, table: pa.Table, names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Times and events, risks and shares."""
        labels = ["risk"] + [f"survival_{n}" for n in names if not self.whole_fold]
        truth = [
            table[name].to_numpy().astype(np.float64) for name in ("time", "event")
        ]
        return np.stack(truth, 1), np.stack([table[n].to_numpy() for n in labels], 1)

    def draw(
        self,
        figure: Figure,
        values: np.ndarray,
        truth: np.ndarray,
        names: Sequence[str],
    ) -> str:
        """Risk against time, and the rate of events by quarters of risk."""
        return draw_survival(figure, values[:, 0], truth, self.time, self.event)


def build(
    *,
    time: str,
    event: str,
    loss: Literal["cox", "discrete"] = "cox",
    intervals: Annotated[int, Field(ge=2, le=50)] = 4,
) -> Target:
    """The time to an event.

    ``loss``: cox, one step an epoch on the whole training fold, or discrete, hazards in
    ``intervals`` that hold equally many events.
    """
    return SurvivalTarget(time, event, loss, intervals)
