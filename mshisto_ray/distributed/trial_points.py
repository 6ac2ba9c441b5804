"""What Ray Tune trains next, and what it ends early: as the sweep decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.rungs import Rungs


class HandOut(Searcher):
    """Gives Tune one pack of points after another, none once the budget is used up.

    Args:
        take: points to train at once, by digest; empty: there is none.
        minutes: after which no further point is begun; None: no limit.
    """

    def __init__(self, take: Callable[[], Mapping[str, Point]], minutes: float | None):
        super().__init__()
        self._take = take
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def suggest(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, trial_id: str
    ) -> dict[str, Any] | str:
        """The config of a new trial: ``digests``, and the points as JSON."""
        if self._end is not None and time.monotonic() >= self._end:
            return Searcher.FINISHED
        found = self._take()
        if not found:
            return Searcher.FINISHED
        points = [point.config.model_dump_json() for point in found.values()]
        return {"digests": list(found), "points": points}

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        """Do nothing: results are files, which ``take`` reads."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: a sweep has a record of its own."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class Pruner(FIFOScheduler):
    """Ends the trials that the rungs prune; without rungs none."""

    def __init__(self, rungs: Rungs | None):
        super().__init__()
        self._rungs = rungs

    def on_trial_result(
        self, tune_controller: Any, trial: Trial, result: dict[str, Any]
    ) -> str:
        """Decide on a trial that reports what its models have on validation."""
        values = result.get("validated")
        if self._rungs is None or not values:
            return TrialScheduler.CONTINUE
        (digest,) = trial.config["digests"]
        given = digest, values, result["total"]
        ends = self._rungs.prunes(*given)
        return TrialScheduler.STOP if ends else TrialScheduler.CONTINUE

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its scheduler to restore it; this one is never restored."""
        return {}
