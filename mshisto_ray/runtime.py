"""``runtime`` of every job: the keys that an operator sets; none changes a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import field_validator

from mshisto_ray import tracking
from mshisto_ray.config import Config, option


class Runtime(Config):
    """A job's MLflow runs."""

    mlflow: tracking.TrackingConfig = tracking.TrackingConfig()

    def store_uri(self, out: Path) -> str:
        """Address of the MLflow store of a job that writes ``out``."""
        return self.mlflow.uri or tracking.default_uri(out)

    def check_store(self) -> None:
        """Refuse an MLflow store that is named and cannot be used."""
        if self.mlflow.uri:
            tracking.check_uri(self.mlflow.uri)

    def open_store(self, out: Path, part: Path | None = None) -> tracking.Store:
        """Open the MLflow store of a job that writes ``out``, or a ``part`` of it."""
        uri = self.store_uri(out)
        return tracking.open_store(uri, part or out, self.mlflow.experiment)

    def result_run(self, out: Path, part: Path | None = None) -> tracking.ResultRun:
        """The run of the result in ``out``, or a ``part`` of it; opens nothing yet."""
        return tracking.ResultRun(
            lambda: self.open_store(out, part),
            self.store_uri(out),
            self.mlflow.experiment,
            part or out,
        )


class WorkerSize(Config):
    """What a worker process reserves; null: chosen from the cluster."""

    cpus: float | None = option(
        None,
        "CPU cores of a worker; null = 1, or a GPU worker's share of its node "
        "(up to 8)",
        gt=0,
    )
    gpus: float | None = option(
        None,
        "GPUs of a worker, or a share of one, as 0.25; null = 1 where a stage can use "
        "one and there is one, else 0",
        ge=0,
    )

    @field_validator("gpus")
    @classmethod
    def _whole_or_a_share(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and not gpus.is_integer():
            raise ValueError(f"a share of one, as 0.25, or whole GPUs; got {gpus:g}")
        return gpus


class Resources(WorkerSize):
    """How many workers a job has, and what each reserves."""

    actors: int | None = option(
        None, "worker processes; null = as many as fit in the cluster", ge=1
    )


class Readers(Config):
    """The threads of a process that read slides."""

    readers: int = option(2, "threads that read slides", "threads", ge=1)


class WorkersRuntime(Runtime, Resources):
    """Workers and MLflow runs of a job."""


class UnitsRuntime(WorkersRuntime):
    """Workers, accepted failures and MLflow runs of a job that works unit by unit."""

    max_failures: float = option(
        0.5,
        "share of slides that may fail wholly; of predict: of bags",
        unit="share",
        ge=0,
        le=1,
    )
    retry_failures: bool = option(False, "retry what failed because of its input")

    def retries(self, failures: Iterable[Mapping[str, Any]]) -> bool:
        """Whether a unit that ended with these failures is made again."""
        kinds = {failure["kind"] for failure in failures}
        return bool(kinds & {"transient", "hung"}) or (
            self.retry_failures and bool(kinds)
        )
