"""The run of a directory's result, and a record of it that needs no MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mshisto_ray.tracking._store import RESULT_TAG, Store, redacted

_RECORD = ".mlflow.json"


class ResultRun:
    """Logs a directory's result once, and opens the store only where it has to.

    To import MLflow and open its database takes seconds, which a job with nothing to do
    spares: the directory itself records which result is logged where.

    Args:
        open_store: opens the store, as ``open_store``.
        uri: its address.
        experiment: its experiment.
        out: the directory.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        uri: str,
        experiment: str,
        out: Path,
    ):
        self._open_store, self._store = open_store, None
        self._uri, self._experiment, self._out = uri, experiment, out

    def open(self) -> Store:
        """Open the store: before work, so that none is done which cannot be logged."""
        self._store = self._store or self._open_store()
        return self._store

    def log(
        self,
        result: str,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """``Store.log_run``, unless a run of the directory has the same result.

        Args:
            result: text that identifies it.
            name: see ``Store.log_run``, as the rest.
            params: of the run.
            metrics: of the run.
            tags: of the run.
            artifacts: of the run.
        """
        record = {
            "uri": redacted(self._uri),
            "experiment": self._experiment,
            "result": result,
        }
        if self._is_recorded(record):
            return
        store = self.open()
        key = f"{store.out} {result}"
        if store.find_run(RESULT_TAG, key) is None:
            tags = {**(tags or {}), RESULT_TAG: key}
            store.log_run(name, params, metrics, tags, artifacts)
        (self._out / _RECORD).write_text(json.dumps(record, indent=2) + "\n")

    def _is_recorded(self, record: Mapping[str, str]) -> bool:
        database = Path(self._uri.removeprefix("sqlite:///"))
        if self._uri.startswith("sqlite:") and not database.is_file():
            return False
        try:
            return json.loads((self._out / _RECORD).read_text()) == record
        except (OSError, ValueError):
            return False
