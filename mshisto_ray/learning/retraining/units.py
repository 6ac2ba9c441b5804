"""A finished config trained again: on fewer patients, on exchanged labels."""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mshisto_ray import config as configs
from mshisto_ray.config import InputError
from mshisto_ray.learning.retraining.learning_curve import (
    Size,
    missing_sizes,
    run_size,
)
from mshisto_ray.learning.retraining.permuted import (
    missing_permutations,
    run_permutation,
)
from mshisto_ray.learning.sweep import results as sweep_results
from mshisto_ray.learning.sweep.experiment import Experiment


def curve_units(out: Path, digest: str, sizes: tuple[Size, ...]) -> list[dict]:
    """What is missing of the learning curve of a config, as units of work."""
    missing = missing_sizes(sweep_results.folder(out, digest), sizes)
    return [{"digest": digest, "size": size} for size in missing]


def permutation_units(out: Path, digest: str, metric: str, num: int) -> list[dict]:
    """What is missing of the permutations of a config, as units of work."""
    folder = sweep_results.folder(out, digest)
    return [
        {"digest": digest, "metric": metric, "permutation": number}
        for number in missing_permutations(folder, metric, num)
    ]


def make_rerunner(
    kind: type[Experiment], out: str, threads: int
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that trains a unit and returns ``{"error": ...}``, None for none.

    A unit brings its ``config`` as JSON text: units of one config share its data.

    Args:
        kind: class of the configs.
        out: directory of the sweep.
        threads: of torch.
    """
    torch.set_num_threads(threads)

    @functools.lru_cache(maxsize=1)
    def load(text: str):
        config = configs.validate(kind, json.loads(text))
        data = config.load()
        return config, data, config.plan(data)

    def rerun(unit: dict[str, Any]) -> dict[str, Any]:
        try:
            config, data, splits = load(unit["config"])
            folder = sweep_results.folder(Path(out), unit["digest"])
            if "size" in unit:
                run_size(folder, data, splits, config, unit["size"])
            else:
                number = unit["permutation"]
                run_permutation(folder, data, config, unit["metric"], number)
        except InputError as error:
            return {"error": str(error)}
        except Exception:
            return {"error": traceback.format_exc()}
        return {"error": None}

    return rerun
