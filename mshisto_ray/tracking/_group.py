"""A run with children that are written one by one, each once, whatever is restarted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mshisto_ray.tracking._store import PARENT_TAG, RESULT_TAG, Course, Status, Store

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Child:
    """What is written of one child; see ``Store.log_run``."""

    name: str
    params: Mapping[str, Any]
    times: tuple[float, float]
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[Path] = ()
    curve: Sequence[Mapping[str, float]] = ()
    status: Status = "FINISHED"


class RunGroup:
    """The parent run of a job's directory, and a child per key.

    Opening it finds the parent and its children of earlier starts, or begins a parent;
    either way the parent is RUNNING until ``end``. Children that a killed driver left
    half written are deleted.

    Attributes:
        parent: id of the run.
    """

    def __init__(self, store: Store, name: str):
        self.store = store
        key = f"{store.out} {name}"
        found = store.find_run(RESULT_TAG, key, failed_too=True)
        self._children: dict[str, Run] = {}
        if found is None:
            tags = {RESULT_TAG: key}
            found = store.log_run(Path(store.out).name, {}, {}, tags, status="RUNNING")
        else:
            store.update_run(found, status="RUNNING")
            self._find_children(found)
        self.parent = found

    def is_finished(self, key: str) -> bool:
        """Whether a child is there and neither failed nor was stopped."""
        run = self._children.get(key)
        return run is not None and run.info.status == "FINISHED"

    def write(self, key: str, child: Child) -> None:
        """Write a child; one of the same key that failed or was stopped is replaced."""
        if key in self._children:
            self.store.client.delete_run(self._children[key].info.run_id)
        run_id = self.store.log_run(
            child.name,
            child.params,
            child.metrics,
            {**child.tags, RESULT_TAG: f"{self.store.out} {key}"},
            child.artifacts,
            self.parent,
            child.status,
            Course(child.times, child.curve),
        )
        self._children[key] = self.store.client.get_run(run_id)

    def amend(
        self,
        key: str,
        name: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
    ) -> None:
        """Give a child what has changed since it was written.

        Args:
            key: of a child that was written.
            name: of the run.
            params: flat; those that are new are added.
            metrics: values to replace.
            tags: values to replace.
        """
        run = self._children[key]
        run_id, known = run.info.run_id, run.data
        if run.info.run_name != name:
            self.store.client.update_run(run_id, name=name)
        new = {k: v for k, v in params.items() if k not in known.params}
        if new:
            self.store.log_params(run_id, new)
        values = {k: v for k, v in metrics.items() if known.metrics.get(k) != v}
        texts = {k: v for k, v in tags.items() if known.tags.get(k) != v}
        if values or texts:
            self.store.add(run_id, values, texts)

    def end(
        self,
        status: Status,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Sequence[Path] = (),
    ) -> None:
        """End the parent."""
        self.store.update_run(self.parent, metrics, tags, artifacts, status)

    def _find_children(self, parent: str) -> None:
        token, prefix = None, f"{self.store.out} "
        while token is None or token:
            found = self.store.client.search_runs(
                [self.store.experiment_id],
                filter_string=f"tags.`{PARENT_TAG}` = '{parent}'",
                page_token=token,
            )
            for run in found:
                key = run.data.tags.get(RESULT_TAG, "").removeprefix(prefix)
                if key and key not in self._children:
                    self._children[key] = run
                else:
                    self.store.client.delete_run(run.info.run_id)
            token = found.token or ""
