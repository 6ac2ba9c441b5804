"""Write a phantom cohort on all cores: one unit per slide."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mshisto_ray.distributed.pipeline import stream
from mshisto_ray.distributed.session import connect
from mshisto_ray.distributed.workers import plan_actors
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import write_slide
from mshisto_ray.runtime import Resources


def write_slides(config: PhantomConfig, out: Path) -> list[dict[str, str]]:
    """Write every slide and annotation; returns the cohort's rows, patient by patient.

    The same files as those of ``phantom.write.write_cohort``.
    """
    out.mkdir(parents=True, exist_ok=True)
    units = [{"slide": slide} for slide in range(config.num_slides)]
    with connect():
        plan = plan_actors(Resources())
        arguments = (config.model_dump(mode="json"), out)
        rows = [row["cohort"] for row in stream(units, make_writer, arguments, plan)]
    return sorted(rows, key=lambda row: row["slide_id"])


def make_writer(
    config: dict[str, Any], out: Path
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that writes one slide."""
    settings = PhantomConfig(**config)
    return lambda unit: {"cohort": write_slide(settings, unit["slide"], out)}


def write_table(rows: list[dict[str, str]], path: Path) -> Path:
    """Write rows as a cohort table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
