"""The database of a new store."""

from __future__ import annotations

import functools
import os
import tempfile
import uuid
import warnings
from pathlib import Path

# A folder in memory, where there is one.
_MEMORY = "/dev/shm"


def create_database(database: Path) -> None:
    """Write a database with MLflow's tables and no runs; all of it or nothing.

    MLflow makes its tables by some seventy migrations, each committed to the disk: that
    takes seconds on a local disk and longer on shared storage. So they are made in
    memory, once in a process, and the file is written as a whole.
    """
    new = database.with_name(f".{database.name}.{uuid.uuid4().hex}")
    try:
        with new.open("wb") as file:
            file.write(_empty_database())
            file.flush()
            os.fsync(file.fileno())
        new.replace(database)
    finally:
        new.unlink(missing_ok=True)


@functools.cache
def _empty_database() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations
        from mlflow.tracking import MlflowClient

        memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="mshisto-", dir=memory) as folder:
            path = Path(folder, "mlflow.db")
            MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}").search_experiments()
            return path.read_bytes()
