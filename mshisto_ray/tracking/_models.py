"""Heads as registered model versions, found again by ``models:/name@alias``."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mshisto_ray.config import InputError
from mshisto_ray.tracking._store import Store

CHAMPION = "champion"
_DIGEST_TAG = "mshisto_ray.head_digest"
_SCHEME = "models:/"
_NOT_ALLOWED = re.compile(r"[^\w.\-]+")
_REFERENCE = re.compile(r"models:/+([^/@]+)(?:@([^/@]+)|/(\d+))")


def is_model(text: str) -> bool:
    """Whether a text names a registered model rather than a folder."""
    return text.startswith(_SCHEME)


def register_model(
    store: Store, run_id: str, name: str, folder: str, digest: str
) -> str:
    """Make a folder of a run's artifacts the champion of a registered model.

    A version with the same digest is used again.

    Args:
        store: of the run.
        run_id: the run.
        name: of the model; characters that MLflow refuses are replaced.
        folder: name of the artifact folder.
        digest: of the folder's content.

    Returns:
        ``models:/name@champion``.
    """
    from mlflow.exceptions import MlflowException

    name, client = _NOT_ALLOWED.sub("-", name), store.client
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    same = [v for v in versions if v.tags.get(_DIGEST_TAG) == digest]
    if same:
        version = same[0]
    else:
        source = f"{client.get_run(run_id).info.artifact_uri}/{folder}"
        tags = {_DIGEST_TAG: digest}
        version = client.create_model_version(name, source, run_id, tags)
    client.set_registered_model_alias(name, CHAMPION, version.version)
    return f"{_SCHEME}{name}@{CHAMPION}"


def fetch_model(store: Store, reference: str, folder: Path) -> Path:
    """The folder of a registered model; one that is not on a disk here is copied.

    Args:
        store: that it is registered in.
        reference: ``models:/name@alias`` or ``models:/name/version``.
        folder: where to copy it to.

    Raises:
        InputError: not such a reference, no such model, or its files are gone.
    """
    from mlflow.exceptions import MlflowException

    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise InputError(
            f"{reference}: give models:/NAME@{CHAMPION}, another alias, or "
            "models:/NAME/VERSION"
        )
    name, alias, number = match.groups()
    try:
        if alias:
            version = store.client.get_model_version_by_alias(name, alias)
        else:
            version = store.client.get_model_version(name, number)
    except MlflowException:
        raise InputError(
            f"{reference}: not in the MLflow store {store.shown_uri}; its models: "
            f"{_names(store) or 'none'}. Another store: runtime.mlflow.uri"
        ) from None
    source = str(version.source)
    if source.startswith("file:"):
        path = Path(url2pathname(urlsplit(source).path))
        if not path.is_dir():
            raise InputError(
                f"{reference}: its files are gone from {path}: train again, or give "
                "head as a folder"
            )
        return path
    return _download(reference, source, folder, store.uri)


def _download(reference: str, source: str, folder: Path, uri: str) -> Path:
    from mlflow.artifacts import download_artifacts

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return Path(download_artifacts(source, dst_path=str(folder), tracking_uri=uri))
    except Exception as error:  # each kind of storage has errors of its own
        text = str(error).strip().splitlines()[-1]
        raise InputError(f"{reference}: cannot be fetched ({text})") from None


def _names(store: Store) -> str:
    return ", ".join(sorted(m.name for m in store.client.search_registered_models()))
