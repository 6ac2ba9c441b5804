"""The MLflow runs of a sweep, written by its driver while its trials run.

A thread writes them, so that no trial waits for a plot or a database.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from mshisto_ray.jobs._experiment_run import describe_result, readable
from mshisto_ray.jobs._sweep_page import runs_view
from mshisto_ray.jobs._sweep_verdict import (
    about_calibration,
    about_levels,
    standing,
    verdict,
)
from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.names import differing, point_names
from mshisto_ray.learning.sweep.points import Point
from mshisto_ray.learning.sweep.pruning import PRUNED, Pruned
from mshisto_ray.learning.sweep.results import PointResult
from mshisto_ray.learning.targets import Target
from mshisto_ray.reporting.page.ranking import SweepRanking
from mshisto_ray.reporting.sweep_tables import told_apart
from mshisto_ray.tracking import (
    Child,
    RunGroup,
    Status,
    Store,
    describe,
    log_inputs,
    save_view,
)

_MAX_ERROR = 500


class SweepRuns:
    """The parent run of a sweep, and a child per config. A context.

    Leaving it by an exception ends the parent, and the configs in training, as KILLED
    (Ctrl-C, SIGTERM) or FAILED.
    """

    def __init__(
        self,
        out: Path,
        store: Store,
        points: Mapping[str, Point],
        target: Target,
        data: Any,
        pruned: Callable[[str], Pruned | None] = lambda digest: None,
    ):
        self._out, self._points, self._pruned = out, points, pruned
        self._count = 0
        self._name_points()
        self._tags = {"embeddings_digest": data.digest, "labels_digest": data.identity}
        self._target = target
        self._started: dict[str, float] = {}
        self._writing: list[Future] = []
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._group = RunGroup(store, "sweep")
        given = [i for p in points.values() for i in p.config.inputs(data)]
        log_inputs(store, self.parent, list({i.path: i for i in given}.values()))

    @property
    def parent(self) -> str:
        """Id of the parent run."""
        return self._group.parent

    def started(self, digest: str) -> None:
        """Note that the training of a config begins."""
        self._name_points()
        self._started.setdefault(digest, time.time())

    def ended(self, digest: str, error: str | None) -> None:
        """Write the child of a config that has a result or an error, or was pruned."""
        self._name_points()
        times = self._started.pop(digest, time.time()), time.time()
        self._writing.append(self._thread.submit(self._write, digest, error, times))

    def conclude(
        self,
        found: SweepRanking,
        artifacts: Sequence[Path],
        metrics: Mapping[str, float],
    ) -> tuple[str, str]:
        """Give every child its place, and end the parent.

        Args:
            found: the configs of the sweep.
            artifacts: of the parent; ``summary.md`` becomes its description.
            metrics: of the parent, beside its counts.

        Returns:
            The page to look at, and what it shows, in a sentence or two.
        """
        ranked, select, compared = found.ranked, found.select, found.compared
        for written in self._writing:
            written.result()
        self._name_points()
        for place, outcome in enumerate(ranked, start=1):
            chosen = bool(select) and place == 1
            other = compared.get(outcome.digest)
            self._group.amend(
                outcome.digest,
                self._names[outcome.digest],
                self._params[outcome.digest],
                standing(other, chosen, place),
                verdict(outcome, other, chosen),
            )
        view = runs_view(
            self.parent,
            self._points,
            self._names.values(),
            list(self._params.values()),
            self._target,
            select,
        )
        page = save_view(self._group.store, view)
        answer = self._answer(ranked, select, compared)
        answer += about_calibration(found.decisions) or about_levels(ranked[0])
        answer += f" {len(found.failed)} configs failed." if found.failed else ""
        text = (self._out / "summary.md").read_text()
        link = f"[All configs, the best first]({page})."
        describe(self._group.store, self.parent, f"{answer} {link}\n\n{text}")
        counts: dict[str, float] = {
            "configs": len(ranked),
            "configs_failed": len(found.failed),
        }
        not_run = len(found.not_run) + found.not_suggested
        others = {"configs_pruned": len(found.pruned), "configs_not_run": not_run}
        counts |= {name: num for name, num in others.items() if num}
        counts |= readable(metrics)
        tags = {"intervals": self._target.interval_method, **self._tags}
        self._group.end("FINISHED", counts, tags, artifacts)
        return page, answer

    def __enter__(self) -> SweepRuns:
        for digest in self._points:
            if sweep_results.read_metrics(self._out, digest):
                self.ended(digest, None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        if error is None:
            return
        status: Status = "KILLED" if _is_stop(error) else "FAILED"
        for digest, start in self._started.items():
            self._write_unfinished(
                digest, "the sweep was stopped", (start, time.time()), status
            )
        self._group.end(status)

    def _name_points(self) -> None:
        """Name the points that are known; those of a search come one by one."""
        if len(self._points) != self._count:
            known = dict(self._points)
            self._names, self._params = point_names(known), differing(known)
            self._count = len(known)

    def _write(
        self, digest: str, error: str | None, times: tuple[float, float]
    ) -> None:
        metrics = sweep_results.read_metrics(self._out, digest)
        pruned = None if metrics or error else self._pruned(digest)
        if pruned:
            title = self._target.titles[pruned.metric]
            self._write_unfinished(digest, pruned.in_words(title), times, "KILLED")
        elif metrics is None:
            self._write_unfinished(digest, error or "no result", times, "FAILED")
        elif not self._group.is_finished(digest):
            with tempfile.TemporaryDirectory() as scratch:
                child = describe_result(
                    sweep_results.folder(self._out, digest),
                    metrics,
                    self._names[digest],
                    self._params[digest],
                    Path(scratch),
                    self._points[digest].config,
                )
                self._group.write(digest, child)

    def _write_unfinished(
        self, digest: str, error: str, times: tuple[float, float], status: Status
    ) -> None:
        reason = error.strip().splitlines()[-1][:_MAX_ERROR]
        tags = {"error": reason}
        if reason.startswith(PRUNED):
            tags = {"verdict": PRUNED, PRUNED: reason}
        child = Child(
            self._names[digest],
            self._params[digest],
            times,
            tags=tags,
            status=status,
        )
        self._group.write(digest, child)

    def _answer(
        self,
        ranked: Sequence[PointResult],
        select: str | None,
        compared: Mapping[str, Comparison],
    ) -> str:
        """The result in short, as Markdown."""
        if select is None:
            return "None was chosen."
        first = ranked[0]
        values = first.metrics or {}
        test = values[f"test_{select}_mean"]
        low, high = (values[f"test_{select}_ci_{end}"] for end in ("low", "high"))
        if not len(compared):  # one config, which may do without validation
            name = self._names[first.digest]
            return (
                f"**{name}** is the only config; its test_{select} is {test:.3f} "
                f"({low:.3f} to {high:.3f})."
            )
        val = values[f"val_{select}_mean"]
        apart = [found for found in compared.values() if told_apart(found)]
        worse = sum(found.worse for found in apart)
        return (
            f"**{self._names[first.digest]}** is chosen by val_{select} {val:.3f}; its "
            f"test_{select} is {test:.3f} ({low:.3f} to {high:.3f}). Of "
            f"{len(compared)} others, {len(compared) - len(apart)} cannot be told "
            f"apart from it on the test patients, {worse} are worse, "
            f"{len(apart) - worse} better."
        )


def _is_stop(error: BaseException) -> bool:
    """Whether Ctrl-C or SIGTERM is behind an exception."""
    cause: BaseException | None = error
    while cause and isinstance(cause, Exception):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
