"""Heads as registered model versions, found again by ``models:/name@alias``."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from mshisto_ray.config import InputError
from mshisto_ray.tracking._open import open_client
from mshisto_ray.tracking._store import Store, redacted

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
DESCRIPTION = "MLmodel"  # MLflow's name
_HEADS = "heads"
_DIGEST_TAG = "mshisto_ray.head_digest"
_SCHEME = "models:/"
_NOT_ALLOWED = re.compile(r"[^\w.\-]+")
_REFERENCE = re.compile(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))")


@dataclass(frozen=True)
class Model:
    """A head to register.

    Attributes:
        name: characters that MLflow refuses are replaced.
        folder: the head's files.
        digest: of their content; a version with the same one is used again.
        dim: width of an instance.
        classes: columns of the probabilities.
        about: text that the version's page shows.
    """

    name: str
    folder: Path
    digest: str
    dim: int
    classes: tuple[str, ...]
    about: str


def register_model(store: Store, run_id: str, model: Model) -> str:
    """Make a head the champion of a registered model; a run keeps its files.

    Returns:
        ``models:/name@champion``.
    """
    from mlflow.exceptions import MlflowException

    name, client = _NOT_ALLOWED.sub("-", model.name), store.client
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    same = [v for v in versions if v.tags.get(_DIGEST_TAG) == model.digest]
    if same:
        version = same[0]
    else:
        kept = f"{_HEADS}/{model.digest[:8]}"  # the run may choose another one later
        client.log_artifacts(run_id, str(model.folder), kept)
        _log_signature(store, run_id, model, kept)
        source = f"{client.get_run(run_id).info.artifact_uri}/{kept}"
        tags = {_DIGEST_TAG: model.digest}
        version = client.create_model_version(
            name, source, run_id, tags, description=model.about
        )
    client.set_registered_model_alias(name, CHAMPION, version.version)
    return f"{_SCHEME}{name}@{CHAMPION}"


def _log_signature(store: Store, run_id: str, model: Model, kept: str) -> None:
    """Write MLflow's own description of what goes in and out, beside the head."""
    from mlflow.models import Model as Description
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    given = TensorSpec(np.dtype("float32"), (-1, model.dim), "instances of a bag")
    out = TensorSpec(np.dtype("float64"), (-1, len(model.classes)), "probabilities")
    about = Description(
        run_id=run_id, signature=ModelSignature(Schema([given]), Schema([out]))
    )
    about.add_flavor("mshisto_ray", classes=list(model.classes))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / DESCRIPTION
        about.save(str(path))
        store.client.log_artifact(run_id, str(path), kept)


def fetch_model(reference: Path, uri: str) -> Path:
    """The folder of a registered model; a path that names none is returned as it is.

    Files that are not on a disk here are copied beside those of other models in a
    folder of the user's cache.

    Args:
        reference: ``models:/name@alias`` or ``models:/name/version``, or a path.
        uri: of the store that it is registered in.

    Raises:
        InputError: not such a reference, no such model, or its files are gone.
    """
    from mlflow.exceptions import MlflowException

    text = str(reference)
    if not text.startswith(_SCHEME):
        return reference
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise InputError(
            f"{text}: give models:/NAME@{CHAMPION}, another alias, or "
            "models:/NAME/VERSION"
        )
    name, alias, number = match.groups()
    client = open_client(uri)
    try:
        if alias:
            version = client.get_model_version_by_alias(name, alias)
        else:
            version = client.get_model_version(name, number)
    except MlflowException:
        raise InputError(
            f"{text}: not in the MLflow store {redacted(uri)}, which has "
            f"{_names(client) or 'no model'}: another store is runtime.mlflow.uri"
        ) from None
    source = str(version.source)
    if not source.startswith("file:"):
        return _download(text, source, f"{name}-{version.version}", uri)
    path = Path(url2pathname(urlsplit(source).path))
    if not path.is_dir():
        raise InputError(
            f"{text}: its files are gone from {path}: train again, or give a folder"
        )
    return path


def _download(reference: str, source: str, name: str, uri: str) -> Path:
    from mlflow.artifacts import download_artifacts

    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = folder / "mshisto_ray" / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(download_artifacts(source, dst_path=str(folder), tracking_uri=uri))
    except Exception as error:  # each kind of storage has errors of its own
        text = str(error).strip().splitlines()[-1]
        raise InputError(f"{reference}: cannot be fetched ({text})") from None


def _names(client: MlflowClient) -> str:
    return ", ".join(sorted(m.name for m in client.search_registered_models()))
