"""The MLflow runs of a sweep, written by its driver while its trials run.

A thread writes them, so that no trial waits for a plot or a database.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from mshisto_ray.decision.examination import Examination
from mshisto_ray.jobs._experiment_run import describe_result, inputs, readable
from mshisto_ray.learning.comparison import Comparison
from mshisto_ray.mil import sweep_results
from mshisto_ray.mil.input.bags import Bags
from mshisto_ray.mil.point_names import differing, point_names
from mshisto_ray.mil.sweep import Point
from mshisto_ray.mil.sweep_results import PointResult
from mshisto_ray.reporting.sweep_tables import told_apart
from mshisto_ray.tracking import (
    Child,
    RunGroup,
    RunsView,
    Status,
    Store,
    describe,
    log_inputs,
    save_view,
)

_MAX_ERROR = 500
_DOUBT = ", hardly trained"
_MAX_PARAMS = 4  # columns of the runs table


class SweepRuns:
    """The parent run of a sweep, and a child per config. A context.

    Leaving it by an exception ends the parent, and the configs in training, as KILLED
    (Ctrl-C, SIGTERM) or FAILED.
    """

    def __init__(
        self, out: Path, store: Store, points: Mapping[str, Point], bags: Bags
    ):
        self._out, self._points = out, points
        self._names, self._params = point_names(points), differing(points)
        self._tags = {"embeddings_digest": bags.digest, "labels_digest": bags.identity}
        self._target = bags.kind
        self._started: dict[str, float] = {}
        self._writing: list[Future] = []
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._group = RunGroup(store, "sweep")
        given = [i for p in points.values() for i in inputs(p.config, bags)]
        log_inputs(store, self.parent, list({i.path: i for i in given}.values()))

    @property
    def parent(self) -> str:
        """Id of the parent run."""
        return self._group.parent

    def started(self, digest: str) -> None:
        """Note that the training of a config begins."""
        self._started.setdefault(digest, time.time())

    def ended(self, digest: str, error: str | None) -> None:
        """Write the child of a config that has a result or an error."""
        times = self._started.pop(digest, time.time()), time.time()
        self._writing.append(self._thread.submit(self._write, digest, error, times))

    def conclude(
        self,
        ranked: Sequence[PointResult],
        failed: Sequence[PointResult],
        select: str | None,
        compared: Mapping[str, Comparison],
        artifacts: Sequence[Path],
        metrics: Mapping[str, float],
        decisions: Examination | None,
    ) -> tuple[str, str]:
        """Give every child its place, and end the parent.

        Args:
            ranked: finished configs, of ``mil.sweep_results.rank``.
            failed: configs without a result.
            select: metric that the first was chosen by.
            compared: with the chosen one, by digest.
            artifacts: of the parent; ``summary.md`` becomes its description.
            metrics: of the parent, beside its counts.
            decisions: of the chosen config, out of fold.

        Returns:
            The page to look at, and what it shows, in a sentence or two.
        """
        for written in self._writing:
            written.result()
        for place, outcome in enumerate(ranked, start=1):
            chosen = bool(select) and place == 1
            found = compared.get(outcome.digest)
            self._group.amend(
                outcome.digest,
                self._names[outcome.digest],
                self._params[outcome.digest],
                _difference(found, chosen),
                _verdict(outcome, found, chosen, place),
            )
        page = save_view(self._group.store, self._view(select))
        answer = self._answer(ranked, select, compared) + _calibration(decisions)
        text = (self._out / "summary.md").read_text()
        link = f"[All configs, the best first]({page})."
        describe(self._group.store, self.parent, f"{answer} {link}\n\n{text}")
        counts = {"configs": len(ranked), "configs_failed": len(failed)}
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

    def _write(
        self, digest: str, error: str | None, times: tuple[float, float]
    ) -> None:
        metrics = sweep_results.read_metrics(self._out, digest)
        if metrics is None:
            self._write_unfinished(digest, error or "no result", times, "FAILED")
        elif not self._group.is_finished(digest):
            with tempfile.TemporaryDirectory() as scratch:
                child = describe_result(
                    sweep_results.folder(self._out, digest),
                    metrics,
                    self._names[digest],
                    self._params[digest],
                    Path(scratch),
                    self._target,
                )
                self._group.write(digest, child)

    def _write_unfinished(
        self, digest: str, error: str, times: tuple[float, float], status: Status
    ) -> None:
        reason = error.strip().splitlines()[-1][:_MAX_ERROR]
        child = Child(
            self._names[digest],
            self._params[digest],
            times,
            tags={"error": reason},
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
        val, test = values[f"val_{select}_mean"], values[f"test_{select}_mean"]
        low, high = (values[f"test_{select}_ci_{end}"] for end in ("low", "high"))
        apart = [found for found in compared.values() if told_apart(found)]
        worse = sum(found.worse for found in apart)
        return (
            f"**{self._names[first.digest]}** is chosen by val_{select} {val:.3f}; its "
            f"test_{select} is {test:.3f} ({low:.3f} to {high:.3f}). Of "
            f"{len(compared)} others, {len(compared) - len(apart)} cannot be told "
            f"apart from it on the test patients, {worse} are worse, "
            f"{len(apart) - worse} better."
        )

    def _view(self, select: str | None) -> RunsView:
        metric = select or self._target.chooses
        chooses = f"val_{metric}"
        metrics = [chooses, f"test_{metric}"]
        metrics += ["diff_to_chosen", "p_difference"] if select else []
        axes = dict.fromkeys(key for p in self._points.values() for key in p.values)
        columns = [f"metrics.`{name}`" for name in metrics]
        columns += [f"params.`{key}`" for key in list(axes)[:_MAX_PARAMS]]
        columns += ["tags.`verdict`"] if select else []
        return RunsView(self.parent, columns, f"metrics.`{chooses}`")


def _calibration(found: Examination | None) -> str:
    """How far probabilities lie from shares, as one more sentence."""
    if found is None:
        return ""
    parts = [f"{found.errors['ece'].value:.3f} as the models give them"]
    if found.is_calibrated:
        parts.append(f"{found.errors['ece_calibrated'].value:.3f} calibrated")
    return (
        " Probabilities differ from the shares that came true (ECE, out of fold) by "
        f"{' and '.join(parts)}: decisions.png."
    )


def _difference(found: Comparison | None, chosen: bool) -> dict[str, float]:
    """A config's test metric less that of the chosen one, and p after Holm."""
    if chosen:  # it may have been compared with another one before
        return {"diff_to_chosen": 0.0, "p_difference": 1.0}
    if found is None:
        return {}
    return readable(
        {"diff_to_chosen": found.difference.value, "p_difference": found.p_holm}
    )


def _verdict(
    outcome: PointResult, found: Comparison | None, chosen: bool, place: int
) -> dict[str, str]:
    tags = {"chosen": str(chosen).lower(), "rank": str(place)}
    if outcome.warnings:
        tags["warnings"] = " ".join(outcome.warnings)
    if chosen:
        verdict = "chosen"
    elif found is None:
        return tags
    elif not told_apart(found):
        verdict = "tied"
    else:
        verdict = "worse" if found.worse else "better"
    return {**tags, "verdict": verdict + (_DOUBT if outcome.warnings else "")}


def _is_stop(error: BaseException) -> bool:
    """Whether Ctrl-C or SIGTERM is behind an exception."""
    cause: BaseException | None = error
    while cause and isinstance(cause, Exception):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
