"""The only module that uses MLflow: one store, whole runs written by the driver.

Only the driver writes. ``open_store`` creates database and experiment before any
worker starts, and no run is ever "active": every call names its run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
import os
import re
import shlex
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mshisto_ray import provenance
from mshisto_ray.config import Config, InputError, option

if TYPE_CHECKING:  # importing MLflow takes seconds
    from mlflow.tracking import MlflowClient

Status = Literal["FINISHED", "FAILED", "RUNNING"]

_PARENT_TAG = "mlflow.parentRunId"
_COMMIT_TAG = "mlflow.source.git.commit"
_VERSION_TAG = "mshisto_ray.version"
_NOT_FINITE_TAG = "metrics_not_finite"
# MLflow's limits: longer values are refused, or cut without a warning.
_MAX_VALUE = 6000
_MAX_KEY = 250
_PARAMS_A_BATCH = 100
_METRICS_A_BATCH = 1000
_NOT_ALLOWED = re.compile(r"[^\w.\- :]")
_SERVER_TIMEOUT_S = 5.0


class TrackingConfig(Config):
    """MLflow store and experiment of a job's runs."""

    uri: str | None = option(
        None,
        "MLflow store: null = mlflow.db in `out`; sqlite:////absolute/mlflow.db; "
        "http(s)://server",
    )
    experiment: str = option("mshisto_ray", "MLflow experiment", min_length=1)


class Store:
    """One experiment of an MLflow store. Made by ``open_store``."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str):
        self.uri = uri
        self.experiment_id = experiment_id
        self._client = client

    def log_run(
        self,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        parent: str | None = None,
        status: Status = "FINISHED",
        curve: Sequence[Mapping[str, float]] = (),
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
            curve: metrics of several steps, each with its ``step``; those that are
                not finite are left out.

        Returns:
            The id of the run.
        """
        initial = {**_code_version(), **({_PARENT_TAG: parent} if parent else {})}
        run = self._client.create_run(self.experiment_id, run_name=name, tags=initial)
        run_id = run.info.run_id
        self._log_params(run_id, params)
        self._log_curve(run_id, curve)
        self.update_run(run_id, metrics, tags, artifacts, status)
        return run_id

    def update_run(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
        status: Status = "FINISHED",
    ) -> None:
        """Add results to a run (a sweep's parent, once its children are in)."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        named = _legal_names(metrics or {})
        finite = {key: float(v) for key, v in named.items() if math.isfinite(v)}
        dropped = sorted(set(named) - set(finite))
        points = [Metric(key, value, now, 0) for key, value in finite.items()]
        for batch in _batches(points, _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=batch)
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), path.name)
            else:
                self._client.log_artifact(run_id, str(path))
        written = dict(tags or {})
        if dropped:
            written[_NOT_FINITE_TAG] = ", ".join(dropped)
        rows = [RunTag(key, str(value)) for key, value in written.items()]
        self._client.log_batch(run_id, tags=rows)
        if status != "RUNNING":
            self._client.set_terminated(run_id, status)

    def find_run(self, key_tag: str, value: str) -> str | None:
        """The id of the run with this tag, or None; failed runs are ignored."""
        quote = '"' if "'" in value else "'"
        found = self._client.search_runs(
            [self.experiment_id],
            filter_string=f"tags.`{key_tag}` = {quote}{value}{quote} and "
            "status != 'FAILED'",
            max_results=1,
        )
        return found[0].info.run_id if found else None

    def view_command(self) -> str:
        """The command that shows the runs, or the server's address."""
        if self.uri.startswith(("http://", "https://")):
            return f"{self.uri.rstrip('/')}/#/experiments/{self.experiment_id}"
        return f"mlflow ui --backend-store-uri {shlex.quote(self.uri)}"

    def _log_curve(self, run_id: str, curve: Sequence[Mapping[str, float]]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(key, float(value), now, int(record["step"]))
            for record in curve
            for key, value in _legal_names(record).items()
            if key != "step" and math.isfinite(value)
        ]
        for batch in _batches(points, _METRICS_A_BATCH):
            self._client.log_batch(run_id, metrics=batch)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = _legal_names(flatten(params)).items()
        rows = [Param(key, _shorten(value)) for key, value in flat]
        for batch in _batches(rows, _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=batch)


def open_store(uri: str | None, out: Path, experiment: str) -> Store:
    """Open an experiment of an MLflow store; both are created if they don't exist.

    Args:
        uri: None for a database in ``out`` itself; ``sqlite:////absolute/path.db``
            for one shared by several jobs of a machine; ``http(s)://`` for a server.
        out: the job's output folder.
        experiment: name of the experiment.

    Raises:
        InputError: the kind of store cannot be used, or the server does not answer.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = uri or f"sqlite:///{out.absolute() / 'mlflow.db'}"
    check_uri(uri)
    if not uri.startswith("sqlite:"):
        return _open(uri, experiment, None)
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    artifacts = database.parent / "mlartifacts"
    with _locked(database.with_suffix(".lock")):
        return _open(uri, experiment, artifacts.as_uri())


def check_uri(uri: str) -> None:
    """Raise InputError for a store that cannot be used from here."""
    if uri.startswith("sqlite:"):
        if not uri.startswith("sqlite:////"):
            raise InputError(
                f"mlflow store {uri!r}: a submitted job loses a path that is not "
                "absolute: use sqlite:////absolute/path/mlflow.db"
            )
    elif uri.startswith(("http://", "https://")):
        try:
            url = f"{uri.rstrip('/')}/health"
            urllib.request.urlopen(url, timeout=_SERVER_TIMEOUT_S).close()
        except urllib.error.HTTPError:
            pass  # a server answers; a proxy may guard this page
        except (OSError, ValueError) as error:
            raise InputError(
                f"mlflow store {uri}: no server answers ({error}): start it, or leave "
                "the key out for a database in the output folder"
            ) from None
    elif "://" not in uri or uri.startswith("file:"):
        raise InputError(
            f"mlflow store {uri!r}: MLflow no longer writes plain folders: use "
            "sqlite:////absolute/path/mlflow.db or http://host:port"
        )


def _open(uri: str, experiment: str, artifacts: str | None) -> Store:
    for chatty in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            client = MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(experiment)
            if found is None:
                number = client.create_experiment(experiment, artifacts)
                return Store(client, uri, number)
        except MlflowException as error:
            raise InputError(f"mlflow store {uri}: {error.message}") from error
    if found.lifecycle_stage != "active":
        raise InputError(
            f"mlflow store {uri}: experiment {experiment!r} was deleted: restore it "
            f"(mlflow experiments restore -x {found.experiment_id}), or name another"
        )
    return Store(client, uri, found.experiment_id)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock out other processes: the first use of a database creates its tables."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested params as ``{dotted key: text}``, in the grammar of overrides.

    A part ``pooling: {name: attention, hidden: 3}`` becomes ``pooling=attention`` and
    ``pooling.hidden=3``; lists and scalars are written as JSON, text as it is.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            inner = dict(value)
            if "name" in inner:
                flat[dotted] = str(inner.pop("name"))
            flat |= flatten(inner, f"{dotted}.")
        elif isinstance(value, str | Path):
            flat[dotted] = str(value)
        else:
            flat[dotted] = json.dumps(value, default=str)
    return flat


def _batches(rows: list[Any], size: int) -> list[list[Any]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _shorten(value: str) -> str:
    if len(value) <= _MAX_VALUE:
        return value
    mark = f" ... ({len(value)} characters)"
    return value[: _MAX_VALUE - len(mark)] + mark


def _legal_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace characters that MLflow refuses in keys, such as in class names."""
    legal: dict[str, Any] = {}
    for key, value in values.items():
        name = _NOT_ALLOWED.sub("_", key)[:_MAX_KEY]
        while name in legal:
            name = f"{name[: _MAX_KEY - 1]}_"
        legal[name] = value
    return legal


def _code_version() -> dict[str, str]:
    """Tags of a run: the package version and git commit that write it."""
    tags = {_VERSION_TAG: provenance.versions([provenance.PACKAGE])[provenance.PACKAGE]}
    commit = provenance.commit()
    return tags | ({_COMMIT_TAG: commit} if commit else {})
