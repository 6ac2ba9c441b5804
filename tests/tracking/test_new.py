"""The database of a new store is written as a whole."""

import contextlib
import sqlite3
import warnings
from pathlib import Path

import pytest

from mshisto_ray.tracking import open_store


def test_it_has_the_tables_of_this_mlflow(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations
        from mlflow.store.db.utils import _get_latest_schema_revision
    open_store(None, tmp_path / "out", "tests")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        (found,) = connection.execute("SELECT version_num FROM alembic_version")
    assert found == (_get_latest_schema_revision(),)


def test_an_interrupted_creation_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        open_store(None, tmp_path / "out", "tests")
    assert not list(tmp_path.glob("*mlflow.db*"))
    monkeypatch.undo()
    assert open_store(None, tmp_path / "out", "tests").experiment_id
