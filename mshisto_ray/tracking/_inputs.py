"""The data that a run was made from, as MLflow's dataset inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mshisto_ray.tracking._store import Store

_DIGEST_CHARACTERS = 36  # MLflow's limit


@dataclass(frozen=True)
class Input:
    """A folder or table, the digest of what was read from it, and its sizes."""

    name: str
    path: Path
    digest: str
    sizes: dict[str, int]


def log_inputs(store: Store, run_id: str, inputs: Sequence[Input]) -> None:
    """Name the data of a run; naming the same data again changes nothing."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    store.client.log_inputs(
        run_id,
        [
            DatasetInput(
                Dataset(
                    given.name,
                    given.digest[:_DIGEST_CHARACTERS],
                    "local",
                    json.dumps({"uri": str(given.path)}),
                    profile=json.dumps(given.sizes),
                ),
                [InputTag("mlflow.data.context", "training")],
            )
            for given in inputs
        ],
    )
