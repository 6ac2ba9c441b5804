"""Which store a job writes to, and its opening."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.tracking._store import Store

_SERVER_TIMEOUT_S = 5.0


class TrackingConfig(Config):
    """MLflow store and experiment of a job's runs."""

    uri: str | None = option(
        None,
        "MLflow store: null = mlflow.db in `out`; sqlite:////absolute/mlflow.db; "
        "http(s)://server",
    )
    experiment: str = option("mshisto_ray", "MLflow experiment", min_length=1)


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
