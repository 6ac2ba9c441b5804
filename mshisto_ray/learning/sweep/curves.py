"""Training curves of a config: means over its fold models, epoch by epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Of bags; of tiles.
_TRAINING = ("bag_loss", "loss")


def read_mean_curve(folder: Path) -> list[dict[str, float]]:
    """``step`` (epoch) with ``epoch_train_loss``, and ``epoch_val_`` loss and metric.

    Each is the mean over the models that trained that long. The curve ends where fewer
    than half did: early stopping leaves the slow ones, and the mean of a few jumps.
    """
    file = folder / "history.json"
    return mean_curve(json.loads(file.read_text())) if file.is_file() else []


def mean_curve(models: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """As ``read_mean_curve``, of the content of ``history.json``."""
    found = []
    for epoch in range(max((len(m["history"]) for m in models), default=0)):
        records = [m["history"][epoch] for m in models if len(m["history"]) > epoch]
        if 2 * len(records) < len(models):
            break
        point = {"step": float(epoch + 1)}
        keys = dict.fromkeys(key for record in records for key in record)
        training = next((key for key in _TRAINING if key in keys), None)
        for key in keys:
            values = [r[key] for r in records if r.get(key) is not None]
            if values and (key == training or key.startswith("val_")):
                name = "train_loss" if key == training else key
                point[f"epoch_{name}"] = float(np.mean(values))
        found.append(point)
    return found
