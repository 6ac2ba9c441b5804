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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import field_serializer

from mshisto_ray.config import Config, InputError, option
from mshisto_ray.tracking._moved import FOLDER, follow_move
from mshisto_ray.tracking._new import create_database
from mshisto_ray.tracking._store import Store, redacted

if TYPE_CHECKING:  # importing MLflow takes seconds
    from mlflow.tracking import MlflowClient

_DATABASE = "mlflow.db"
_SERVER_TIMEOUT_S = 5.0


class TrackingConfig(Config):
    """MLflow store and experiment of a job's runs."""

    uri: str | None = option(
        None,
        "MLflow store: null = mlflow.db beside a step's folder (results/mlflow.db of "
        "results/tiles); sqlite:////absolute/mlflow.db; http(s)://server",
    )
    experiment: str = option("mshisto_ray", "MLflow experiment", min_length=1)

    @field_serializer("uri", when_used="json")
    def _without_password(self, uri: str | None) -> str | None:
        """What is printed, recorded and logged."""
        return redacted(uri) if uri else uri


def default_uri(out: Path) -> str:
    """The store of a job that names none: ``mlflow.db`` beside its output folder.

    So the jobs of a project, which write ``results/tiles``, ``results/sweep``, share
    one. A database that is in the folder itself is used further, and one is made there
    where the folder above cannot be written.
    """
    out = out.absolute()
    inside, beside = out / _DATABASE, out.parent / _DATABASE
    above = next(path for path in out.parents if path.exists())
    if inside.exists() or not os.access(above, os.W_OK):
        return f"sqlite:///{inside}"
    return f"sqlite:///{beside}"


def open_store(uri: str | None, out: Path, experiment: str) -> Store:
    """Open an experiment of an MLflow store; both are created if they don't exist.

    Args:
        uri: None for the ``default_uri``; ``sqlite:////absolute/path.db`` for another
            database; ``http(s)://`` for a server.
        out: the job's output folder.
        experiment: name of the experiment.

    Raises:
        InputError: the kind of store cannot be used, or the server does not answer.
    """
    _quieten()
    uri = uri or default_uri(out)
    check_uri(uri)
    if not uri.startswith("sqlite:"):
        return _open(uri, experiment, None, out)
    database = Path(uri.removeprefix("sqlite:///"))
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        database.with_suffix(".lock").touch()
    except OSError as error:
        raise InputError(
            f"mlflow store {uri}: cannot be written to ({error.strerror}): give "
            "another runtime.mlflow.uri"
        ) from None
    artifacts = database.parent / FOLDER
    with _locked(database.with_suffix(".lock")):
        if not database.exists():
            create_database(database)
        follow_move(database)
        return _open(uri, experiment, artifacts.as_uri(), out)


def open_client(uri: str) -> MlflowClient:
    """A client of a store that exists.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    _quieten()
    check_uri(uri)
    if uri.startswith("sqlite:"):
        database = Path(uri.removeprefix("sqlite:///"))
        if not database.is_file():
            raise InputError(
                f"mlflow store {uri}: no such database: give runtime.mlflow.uri"
            )
        with _locked(database.with_suffix(".lock")):
            follow_move(database)
            return _client(uri)
    return _client(uri)


def _quieten() -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # With a server MLflow prints two addresses at the end of every run, and a bar for
    # the files of a head.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for chatty in ("mlflow.store", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _client(uri: str) -> MlflowClient:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        try:
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
        except MlflowException as error:
            raise InputError(_explained(uri, error.message)) from None


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
            parts = urlsplit(uri)  # a user's name and password are no part of a host
            place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
            url = f"{place.rstrip('/')}/health"
            urllib.request.urlopen(url, timeout=_SERVER_TIMEOUT_S).close()
        except urllib.error.HTTPError:
            pass  # a server answers; a proxy may guard this page
        except (OSError, ValueError) as error:
            raise InputError(
                f"mlflow store {redacted(uri)}: no server answers ({error}): start it, "
                "or leave the key out for a database beside the output folder"
            ) from None
    elif "://" not in uri or uri.startswith("file:"):
        raise InputError(
            f"mlflow store {uri!r}: MLflow no longer writes plain folders: use "
            "sqlite:////absolute/path/mlflow.db or http://host:port"
        )


def _open(uri: str, experiment: str, artifacts: str | None, out: Path) -> Store:
    client = _client(uri)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.exceptions import MlflowException

        try:
            found = client.get_experiment_by_name(experiment)
            if found is None:
                number = client.create_experiment(experiment, artifacts)
                return Store(client, uri, number, out)
        except MlflowException as error:
            raise InputError(_explained(uri, error.message)) from None
    if found.lifecycle_stage != "active":
        raise InputError(
            f"mlflow store {redacted(uri)}: experiment {experiment!r} was deleted: "
            f"restore it (mlflow experiments restore -x {found.experiment_id}), or "
            "name another"
        )
    store = Store(client, uri, found.experiment_id, out)
    store.end_killed_runs()
    return store


def _explained(uri: str, message: str) -> str:
    return f"mlflow store {redacted(uri)}: {message.replace(uri, redacted(uri))}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock out other processes: the first use of a database creates its tables."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
