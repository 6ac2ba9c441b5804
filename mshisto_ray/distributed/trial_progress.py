"""The lines of a sweep: a line per config that ends, and the best so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial

from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.pruning import Pruned
from mshisto_ray.progress import CountBar, say

_PRINT_EVERY_S = 5.0
_TABLE_EVERY_S = 30.0
_TABLE_ROWS = 3


class Watch(Protocol):
    """Receives, in the driver, the start and the end of every config."""

    def started(self, digest: str) -> None:
        """Training begins; more than once where a worker died."""
        ...

    def ended(self, digest: str, error: str | None) -> None:
        """There is a result or an error, or the config was pruned."""
        ...


class SweepProgress(Callback):
    """A line per config that ends; between them a bar, or lines; a table now and then.

    Args:
        points: configs by digest; more may come.
        total: how many are to be trained.
        out: directory of the sweep.
        watch: is called too.
        pruned: what is recorded of a config that was pruned.

    Attributes:
        errors: why configs failed, by digest.
    """

    def __init__(
        self,
        points: Mapping[str, Point],
        total: int,
        out: Path,
        watch: Watch,
        pruned: Callable[[str], Pruned | None] = lambda digest: None,
    ):
        self._points, self._total, self._out = points, total, out
        self._watch, self._pruned = watch, pruned
        self._models: dict[str, int] = {}
        self._bar = CountBar("sweep", total, "configs")
        self._best: list[tuple[float, str]] = []
        self._ended: set[str] = set()
        self.errors: dict[str, str] = {}
        self._printed = self._tabled = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks to restore them; this one is never restored."""
        return {}

    def on_trial_start(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """Report the configs whose training begins."""
        for digest in trial.config["digests"]:
            self._watch.started(digest)

    def on_trial_result(
        self, iteration: int, trials: list, trial: Trial, result: dict, **info: Any
    ) -> None:
        """Print configs that have ended; models done, at most every few seconds."""
        self._models[trial.trial_id] = result["models"]
        for digest, error in result["ended"].items():
            self._end(digest, error)
        models = self._show()
        if self._bar.is_shown or time.monotonic() - self._printed <= _PRINT_EVERY_S:
            return
        num = len(self._ended)
        say(f"sweep: {num}/{self._total} configs, {models} models")
        self._printed = time.monotonic()

    def on_trial_complete(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """Print the line of a config that has not reported its end: it was pruned."""
        for digest in trial.config["digests"]:
            self._end(digest, None)

    def on_trial_error(
        self, iteration: int, trials: list, trial: Trial, **info: Any
    ) -> None:
        """Print the lines of configs whose process ended once too often."""
        for digest in trial.config["digests"]:
            self._end(digest, str(trial.get_error()))

    def _show(self) -> int:
        """Move the bar; returns the number of models done."""
        models = sum(self._models.values())
        best = f", best {self._best[0][1]}" if self._best else ""
        self._bar.show(len(self._ended), f"{models} models{best}")
        return models

    def _end(self, digest: str, error: str | None) -> None:
        if digest in self._ended:
            return
        self._ended.add(digest)
        if error:
            self.errors[digest] = error
        self._watch.ended(digest, error)
        point = self._points[digest]
        num = len(self._ended)
        line = f"sweep: {num}/{self._total} configs, {point.label}: "
        self._bar.say(line + self._outcome(digest, point))
        self._show()
        self._printed = time.monotonic()
        # The last line is followed by the summary, and the first says all there is.
        late = self._printed - self._tabled > _TABLE_EVERY_S
        if late and 1 < num < self._total:
            self._say_best()

    def _outcome(self, digest: str, point: Point) -> str:
        # Tests are for the end: who watches them chooses by them.
        target = point.config.kind
        title = target.titles[target.chooses]
        found = sweep_results.read_metrics(self._out, digest)
        if not found:
            pruned = self._pruned(digest)
            return pruned.in_words(title) if pruned else "no result"
        value = found.get(f"val_{target.chooses}_mean")
        if value is None:  # without inner folds there is no validation
            return "done"
        sign = 1 if target.chooses in target.lower_is_better else -1
        text = f"validation {title} {value:.3f}"
        self._best.append((sign * value, f"{text}, {point.label}"))
        self._best.sort()
        return text

    def _say_best(self) -> None:
        self._tabled = time.monotonic()
        if self._best:
            self._bar.say(f"sweep: best of {len(self._ended)} configs so far:")
        for _, text in self._best[:_TABLE_ROWS]:
            self._bar.say(f"sweep:   {text}")
