"""Whole runs in one experiment of a store."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from mshisto_ray import provenance
from mshisto_ray.tracking._limits import (
    METRICS_A_BATCH,
    PARAMS_A_BATCH,
    batches,
    flatten,
    legal_names,
    shorten,
)

if TYPE_CHECKING:  # importing MLflow takes seconds
    from mlflow.tracking import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED", "RUNNING"]

PARENT_TAG = "mlflow.parentRunId"
_COMMIT_TAG = "mlflow.source.git.commit"
_VERSION_TAG = "mshisto_ray.version"
_OUT_TAG = "mshisto_ray.out"
RESULT_TAG = "mshisto_ray.result"
_NOT_FINITE_TAG = "metrics_not_finite"
_SERVERS = ("http://", "https://")
_LOCAL = "http://127.0.0.1:5000"


def redacted(uri: str) -> str:
    """A store's address with its password hidden, for messages and records."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:***@{place}").geturl()


@dataclass(frozen=True)
class Course:
    """How a run went.

    ``times``: start and end, seconds of the epoch; None: both are now; ``curve``:
    metrics of several steps, each with its ``step``; those that are not finite are left
    out.
    """

    times: tuple[float, float] | None = None
    curve: Sequence[Mapping[str, float]] = ()


class Store:
    """One experiment of an MLflow store. Made by ``open_store``."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, out: Path):
        self.uri = uri
        self.out = str(out)
        self.experiment_id = experiment_id
        self.client = client

    def log_run(
        self,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        parent: str | None = None,
        status: Status = "FINISHED",
        course: Course | None = None,
    ) -> str:
        """Write a whole run and end it.

        Params may be nested (a config's ``model_dump``); see ``flatten``. Tags are
        written last, so a run that ``find_run`` sees is complete.

        Args:
            name: shown in the user interface.
            params: config of the run.
            metrics: results; those not finite are left out and named in a tag.
            tags: digests and other keys to find the run by.
            artifacts: files, or folders that are copied whole.
            parent: id of the run that this one is nested under.
            status: "RUNNING" for a parent that ``update_run`` ends later.
            course: when it began and ended, and its metrics by step; None: now.

        Returns:
            The id of the run.
        """
        initial = {**_code_version(), _OUT_TAG: self.out}
        initial |= {PARENT_TAG: parent} if parent else {}
        course = course or Course()
        times = course.times
        start, end = (int(t * 1000) for t in times) if times else (None, None)
        run = self.client.create_run(
            self.experiment_id, start, run_name=name, tags=initial
        )
        run_id = run.info.run_id
        self.log_params(run_id, params)
        self._log_curve(run_id, course.curve)
        self.update_run(run_id, metrics, tags, artifacts, status, end)
        return run_id

    def end_killed_runs(self) -> None:
        """End the runs of this job's directory whose driver was killed at writing."""
        quote = '"' if "'" in self.out else "'"
        left = self.client.search_runs(
            [self.experiment_id],
            filter_string=f"tags.`{_OUT_TAG}` = {quote}{self.out}{quote} and "
            "status = 'RUNNING'",
        )
        for run in left:
            self.client.set_terminated(run.info.run_id, "KILLED")

    def update_run(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        status: Status = "FINISHED",
        end_ms: int | None = None,
    ) -> None:
        """Add results to a run, and end it unless it is to be RUNNING."""
        self.add(run_id, metrics or {}, tags or {}, artifacts)
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status, end_ms)

    def add(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        artifacts: Sequence[Path] = (),
    ) -> None:
        """Add results to a run, tags last, and leave its status."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        named = legal_names(metrics)
        finite = {key: float(v) for key, v in named.items() if math.isfinite(v)}
        dropped = sorted(set(named) - set(finite))
        points = [Metric(key, value, now, 0) for key, value in finite.items()]
        for batch in batches(points, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)
        for path in artifacts:
            if path.is_dir():
                self.client.log_artifacts(run_id, str(path), path.name)
            else:
                self.client.log_artifact(run_id, str(path))
        written = dict(tags)
        if dropped:
            written[_NOT_FINITE_TAG] = ", ".join(dropped)
        rows = [RunTag(key, str(value)) for key, value in written.items()]
        self.client.log_batch(run_id, tags=rows)

    def find_run(
        self, key_tag: str, value: str, failed_too: bool = False
    ) -> str | None:
        """The id of the run with this tag, or None; failed runs are ignored.

        Tags are written last: a run of a killed driver that has them is whole.
        """
        quote = '"' if "'" in value else "'"
        whole = "" if failed_too else " and status != 'FAILED'"
        found = self.client.search_runs(
            [self.experiment_id],
            filter_string=f"tags.`{key_tag}` = {quote}{value}{quote}{whole}",
            max_results=1,
        )
        return found[0].info.run_id if found else None

    @property
    def shown_uri(self) -> str:
        """The store's address without its password."""
        return redacted(self.uri)

    def view_command(self) -> str:
        """The command that shows the runs, or the server's address."""
        if self.uri.startswith(_SERVERS):
            return self.address(f"#/experiments/{self.experiment_id}")
        return f"mlflow ui --backend-store-uri {shlex.quote(self.shown_uri)}"

    def address(self, page: str) -> str:
        """Address of a page: of the server, or of ``view_command`` at its own port."""
        served = self.uri.startswith(_SERVERS)
        return f"{self.shown_uri.rstrip('/') if served else _LOCAL}/{page}"

    def _log_curve(self, run_id: str, curve: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(key, float(value), now, int(record["step"]))
            for record in curve
            for key, value in legal_names(record).items()
            if key != "step" and math.isfinite(value)
        ]
        for batch in batches(points, METRICS_A_BATCH):
            self.client.log_batch(run_id, metrics=batch)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Add params, which may be nested; one that is there has to have this value."""
        from mlflow.entities import Param

        flat = legal_names(flatten(params)).items()
        rows = [Param(key, shorten(value)) for key, value in flat]
        for batch in batches(rows, PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=batch)


def _code_version() -> dict[str, str]:
    """Tags of a run: the package version and git commit that write it."""
    tags = {_VERSION_TAG: provenance.versions([provenance.PACKAGE])[provenance.PACKAGE]}
    commit = provenance.commit()
    return tags | ({_COMMIT_TAG: commit} if commit else {})
